package peer;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The job of benchmarks/peers/common.py on Kafka Streams: hourly windows of every customer.
 *
 * <p>Arguments: bootstrap, topic, events, variant, state folder, path of the cells. Variants:
 * default (RocksDB, all settings as they come), memory (window store on the heap, larger fetches and
 * cache), fast (memory, and a parser of our time stamps instead of java.time), threads (fast, on two
 * stream threads), eos (RocksDB, exactly_once_v2). Changelogs are on in all of them.
 */
public final class Peer {
  static final Set<String> REGIONS = Set.of("eu-central-1", "us-east-1");
  static final ObjectMapper JSON = new ObjectMapper();
  static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Event(String timestamp, Usage properties) {}

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Usage(BigDecimal tokens, BigDecimal latency, @JsonProperty("region") String region) {}

  record Cell(long count, BigDecimal total, BigDecimal peak) {
    static final Cell EMPTY = new Cell(0, BigDecimal.ZERO, null);

    Cell add(Usage usage) {
      BigDecimal total = usage.tokens() == null ? this.total : this.total.add(usage.tokens());
      BigDecimal peak = this.peak;
      if (usage.latency() != null && usage.region() != null && REGIONS.contains(usage.region())) {
        peak = peak == null ? usage.latency() : peak.max(usage.latency());
      }
      return new Cell(count + 1, total, peak);
    }

    byte[] bytes() {
      try {
        var made = new ByteArrayOutputStream(48);
        var out = new DataOutputStream(made);
        out.writeLong(count);
        out.writeUTF(total.toPlainString());
        out.writeUTF(peak == null ? "" : peak.toPlainString());
        return made.toByteArray();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    static Cell of(byte[] raw) {
      if (raw == null) {
        return null;
      }
      try {
        var in = new DataInputStream(new ByteArrayInputStream(raw));
        long count = in.readLong();
        BigDecimal total = new BigDecimal(in.readUTF());
        String peak = in.readUTF();
        return new Cell(count, total, peak.isEmpty() ? null : new BigDecimal(peak));
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }

  static Event parse(byte[] raw) {
    try {
      return JSON.readValue(raw, Event.class);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  static long millis(String text) {
    return OffsetDateTime.parse(text).toInstant().toEpochMilli();
  }

  /** The same for `2026-11-25T10:00:00.123+00:00`, and java.time for every other shape. */
  static long fastMillis(String text) {
    if (text.length() != 29 || !text.endsWith("+00:00") || text.charAt(19) != '.') {
      return millis(text);
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

  static Properties settings(String bootstrap, String variant, String folder) {
    var made = new Properties();
    made.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + variant + "-" + System.nanoTime());
    made.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    made.put(StreamsConfig.STATE_DIR_CONFIG, folder);
    made.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    if (variant.equals("eos")) {
      made.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    }
    if (!variant.equals("default") && !variant.equals("eos")) {
      made.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 10_000);
      made.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 * 1_048_576);
      made.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * 1_048_576);
    }
    if (variant.equals("threads")) {
      made.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    }
    return made;
  }

  public static void main(String[] arguments) throws Exception {
    String variant = arguments[3];
    long events = Long.parseLong(arguments[2]);
    boolean memory = !variant.equals("default") && !variant.equals("eos");
    boolean fast = variant.equals("fast") || variant.equals("threads");
    Duration hour = Duration.ofHours(1);
    Duration day = Duration.ofDays(1);
    Materialized<String, Cell, WindowStore<Bytes, byte[]>> kept =
        memory
            ? Materialized.as(Stores.inMemoryWindowStore("cells", day.plus(hour), hour, false))
            : Materialized.as("cells");
    Serde<Event> event = Serdes.serdeFrom((topic, made) -> null, (topic, raw) -> parse(raw));
    Serde<Cell> cell = Serdes.serdeFrom((topic, made) -> made.bytes(), (topic, raw) -> Cell.of(raw));
    var done = new AtomicLong();
    var ended = new CountDownLatch(1);
    long[] began = new long[2];
    long[] half = new long[2];
    var builder = new StreamsBuilder();
    builder
        .stream(
            arguments[1],
            Consumed.with(Serdes.String(), event)
                .withTimestampExtractor(
                    (record, time) -> {
                      String text = ((Event) record.value()).timestamp();
                      return fast ? fastMillis(text) : millis(text);
                    }))
        .groupByKey(Grouped.with(Serdes.String(), event))
        .windowedBy(TimeWindows.ofSizeAndGrace(hour, day))
        .aggregate(
            () -> Cell.EMPTY,
            (customer, each, held) -> {
              long number = done.incrementAndGet();
              if (number == 1) {
                began[0] = System.nanoTime();
                began[1] = SYSTEM.getProcessCpuTime();
              } else if (number == events / 2) {
                half[0] = System.nanoTime();
                half[1] = SYSTEM.getProcessCpuTime();
              }
              Cell made = held.add(each.properties());
              if (number == events) {
                ended.countDown();
              }
              return made;
            },
            kept.withKeySerde(Serdes.String()).withValueSerde(cell));
    var streams = new KafkaStreams(builder.build(), settings(arguments[0], variant, arguments[4]));
    streams.start();
    ended.await();
    long now = System.nanoTime();
    long cpu = SYSTEM.getProcessCpuTime();
    Thread.sleep(200); // the last event's put follows its aggregator
    var store =
        streams.store(
            StoreQueryParameters.fromNameAndType("cells", QueryableStoreTypes.<String, Cell>windowStore()));
    try (Writer out = Files.newBufferedWriter(Path.of(arguments[5]));
        var all = store.all()) {
      while (all.hasNext()) {
        var next = all.next();
        Cell found = next.value;
        String peak = found.peak() == null ? "null" : '"' + found.peak().toPlainString() + '"';
        out.write(
            String.format(
                "[\"%s\",%d,%d,\"%s\",%s]\n",
                next.key.key(),
                next.key.window().start() / 3_600_000,
                found.count(),
                found.total().toPlainString(),
                peak));
      }
    }
    String told =
        String.format(
            "{\"events\":%d,\"seconds\":%.6f,\"cpu\":%.6f,\"half_seconds\":%.6f,\"half_cpu\":%.6f}",
            events,
            (now - began[0]) / 1e9,
            (cpu - began[1]) / 1e9,
            (now - half[0]) / 1e9,
            (cpu - half[1]) / 1e9);
    Files.writeString(Path.of(arguments[5] + ".json"), told);
    Runtime.getRuntime().halt(0);
  }
}
