"""Where a customer lives: Kafka's default partitioner, written from its description."""


def home_of(customer: str, homes: int) -> int:
    """The partition of Kafka's default partitioner: murmur2 of the key, modulo homes."""
    return (_murmur2(customer.encode()) % 2**31) % homes


def _murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, written from its reference description."""
    factor, word = 0x5BD1E995, 2**32
    value = 0x9747B28C ^ len(data)
    body, tail = data[: len(data) // 4 * 4], data[len(data) // 4 * 4 :]
    for at in range(0, len(body), 4):
        part = int.from_bytes(body[at : at + 4], "little") * factor % word
        part = (part ^ part >> 24) * factor % word
        value = value * factor % word ^ part
    if tail:
        value = (value ^ int.from_bytes(tail, "little")) * factor % word
    value = (value ^ value >> 13) * factor % word
    return value ^ value >> 15
