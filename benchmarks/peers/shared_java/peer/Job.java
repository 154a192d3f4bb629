package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

/** What the peers on the JVM share: reading an event, the clock around the job, the answer. */
public final class Job {
  public static final Set<String> REGIONS = Set.of("eu-central-1", "us-east-1");
  static final JsonFactory JSON = new JsonFactory();
  static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  static {
    // Member names of these events are few: as they come. Values are never interned.
    JSON.enable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES);
  }

  private Job() {}

  /** Takes the members of an event; latency is null where the region is another one. */
  public interface Taker<T> {
    T take(String id, String customer, long at, BigDecimal tokens, BigDecimal latency);
  }

  /** One pass of Jackson's streaming parser, only the members that the job reads. */
  public static <T> T read(byte[] raw, Taker<T> taker) {
    String id = null;
    String customer = null;
    String region = null;
    BigDecimal tokens = null;
    BigDecimal latency = null;
    long at = 0;
    try (JsonParser in = JSON.createParser(raw)) {
      in.nextToken();
      String name;
      while ((name = in.nextFieldName()) != null) {
        switch (name) {
          case "transaction_id" -> id = in.nextTextValue();
          case "customer_id" -> customer = in.nextTextValue();
          case "timestamp" -> at = fastMillis(in.nextTextValue());
          case "properties" -> {
            in.nextToken();
            String inner;
            while ((inner = in.nextFieldName()) != null) {
              switch (inner) {
                case "tokens" -> tokens = number(in);
                case "latency" -> latency = number(in);
                case "region" -> region = in.nextTextValue();
                default -> {
                  in.nextToken();
                  in.skipChildren();
                }
              }
            }
          }
          default -> {
            in.nextToken();
            in.skipChildren();
          }
        }
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
    boolean near = region != null && REGIONS.contains(region);
    return taker.take(id, customer, at, tokens, near ? latency : null);
  }

  static BigDecimal number(JsonParser in) throws IOException {
    JsonToken token = in.nextToken();
    if (token == JsonToken.VALUE_NULL) {
      return null;
    }
    if (token == JsonToken.VALUE_STRING) {
      return new BigDecimal(in.getTextCharacters(), in.getTextOffset(), in.getTextLength());
    }
    return in.getDecimalValue();
  }

  /** `2026-11-25T10:00:00.123+00:00`, and java.time for every other shape. */
  public static long fastMillis(String text) {
    if (text.length() != 29 || !text.endsWith("+00:00") || text.charAt(19) != '.') {
      return OffsetDateTime.parse(text).toInstant().toEpochMilli();
    }
    int year = digits(text, 0, 4);
    int month = digits(text, 5, 7);
    int day = digits(text, 8, 10);
    int shifted = month > 2 ? year : year - 1;
    int era = shifted / 400;
    int ofEra = shifted - era * 400;
    int ofYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    long days = era * 146097L + ofEra * 365L + ofEra / 4 - ofEra / 100 + ofYear - 719468L;
    long seconds =
        ((days * 24 + digits(text, 11, 13)) * 60 + digits(text, 14, 16)) * 60
            + digits(text, 17, 19);
    return seconds * 1000 + digits(text, 20, 23);
  }

  static int digits(String text, int from, int to) {
    int made = 0;
    for (int at = from; at < to; at++) {
      made = made * 10 + text.charAt(at) - '0';
    }
    return made;
  }

  /** The clock around the job: first event, half of them, last of them. */
  public static final class Clock {
    public static long events;
    static final AtomicLong DONE = new AtomicLong();
    public static final CountDownLatch ENDED = new CountDownLatch(1);
    static volatile long began, beganCpu, half, halfCpu, ended, endedCpu;

    private Clock() {}

    public static void tick() {
      long number = DONE.incrementAndGet();
      if (number == 1) {
        began = System.nanoTime();
        beganCpu = SYSTEM.getProcessCpuTime();
      } else if (number == events / 2) {
        half = System.nanoTime();
        halfCpu = SYSTEM.getProcessCpuTime();
      }
      if (number == events) {
        stop();
        ENDED.countDown();
      }
    }

    /** Note now as the end; a later call moves it. */
    public static void stop() {
      endedCpu = SYSTEM.getProcessCpuTime();
      ended = System.nanoTime();
    }

    public static void tell(String path) throws IOException {
      Files.writeString(
          Path.of(path + ".json"),
          String.format(
              java.util.Locale.ROOT,
              "{\"events\":%d,\"seconds\":%.6f,\"cpu\":%.6f,\"half_seconds\":%.6f,\"half_cpu\":%.6f}",
              DONE.get(),
              (ended - began) / 1e9,
              (endedCpu - beganCpu) / 1e9,
              (ended - half) / 1e9,
              (endedCpu - halfCpu) / 1e9));
    }
  }

  /** Options NAME=VALUE, from a place of the arguments on. */
  public static java.util.Map<String, String> options(String[] given, int from) {
    var made = new java.util.HashMap<String, String>();
    for (int at = from; at < given.length; at++) {
      int cut = given[at].indexOf('=');
      made.put(given[at].substring(0, cut), given[at].substring(cut + 1));
    }
    return made;
  }

  public static void line(
      Writer out, String customer, long hour, long count, BigDecimal total, BigDecimal peak)
      throws IOException {
    String last = peak == null ? "null" : '"' + peak.toPlainString() + '"';
    out.write(
        "[\"" + customer + "\"," + hour + "," + count + ",\"" + total.toPlainString() + "\","
            + last + "]\n");
  }
}
