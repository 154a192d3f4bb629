/* Loaded into a process (LD_PRELOAD): writes down each TCP connection that it begins.
 *
 * Whatever opens it, Python or a library in C, calls connect() of libc, so it comes by here. A line
 * of the file CONNECTS_TO is "process address port". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(int fd, const struct sockaddr *to) {
    const char *path = getenv("CONNECTS_TO");
    char address[INET6_ADDRSTRLEN], line[128];
    const void *host;
    int port, kind = 0, file, length;
    socklen_t size = sizeof kind;
    if (path == NULL || to == NULL) return;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) != 0 || kind != SOCK_STREAM) return;
    if (to->sa_family == AF_INET) {
        host = &((const struct sockaddr_in *)to)->sin_addr;
        port = ntohs(((const struct sockaddr_in *)to)->sin_port);
    } else if (to->sa_family == AF_INET6) {
        host = &((const struct sockaddr_in6 *)to)->sin6_addr;
        port = ntohs(((const struct sockaddr_in6 *)to)->sin6_port);
    } else {
        return; /* a socket of this machine */
    }
    inet_ntop(to->sa_family, host, address, sizeof address);
    length = snprintf(line, sizeof line, "%d %s %d\n", (int)getpid(), address, port);
    file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length) abort(); /* a gap would be a lie */
    close(file);
}

int connect(int fd, const struct sockaddr *to, socklen_t length) {
    static int (*libc_connect)(int, const struct sockaddr *, socklen_t);
    int before = errno;
    if (libc_connect == NULL)
        libc_connect = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    note(fd, to);
    errno = before;
    return libc_connect(fd, to, length);
}
