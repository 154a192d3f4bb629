package peer;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Properties;
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
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The job on Kafka Streams (as Peer.java's "fast"), each id counted once: a window store of ids is
 * asked before the aggregation.
 *
 * <p>Arguments: bootstrap, topic, events, path of the cells, state folder, then NAME=VALUE:
 * ids=hours|window (window: as in Confluent's tutorial "find distinct events", a look from a day
 * before to a day after the event's time; hours: the same with times rounded down to the hour,
 * since the window store on the heap walks every time stamp between); store=memory|rocksdb.
 */
public final class Dedup {
  static final Duration HOUR = Duration.ofHours(1);
  static final Duration DAY = Duration.ofDays(1);

  record Event(String id, long at, BigDecimal tokens, BigDecimal latency) {}

  record Cell(long count, BigDecimal total, BigDecimal peak) {
    static final Cell EMPTY = new Cell(0, BigDecimal.ZERO, null);

    Cell add(Event event) {
      BigDecimal total = event.tokens() == null ? this.total : this.total.add(event.tokens());
      BigDecimal peak = this.peak;
      if (event.latency() != null) {
        peak = peak == null ? event.latency() : peak.max(event.latency());
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

  static final class OnceInWindow implements FixedKeyProcessor<String, Event, Event> {
    final long beforeMs = Duration.ofHours(24).toMillis();
    final long bucketMs;

    /** bucketMs: ids are put at their event time rounded down to it; 1: as in the tutorial. */
    OnceInWindow(long bucketMs) {
      this.bucketMs = bucketMs;
    }

    FixedKeyProcessorContext<String, Event> context;
    WindowStore<String, Long> seen;

    @Override
    public void init(FixedKeyProcessorContext<String, Event> context) {
      this.context = context;
      seen = context.getStateStore("ids");
    }

    @Override
    public void process(FixedKeyRecord<String, Event> record) {
      String id = record.value().id();
      long at = record.timestamp() / bucketMs * bucketMs;
      boolean duplicate;
      Instant from = Instant.ofEpochMilli(at - beforeMs);
      Instant to = Instant.ofEpochMilli(at + beforeMs);
      try (var found = seen.fetch(id, from, to)) {
        duplicate = found.hasNext();
      }
      if (!duplicate) {
        seen.put(id, at, at);
        context.forward(record);
      }
      Job.Clock.tick();
    }
  }

  public static void main(String[] given) throws Exception {
    Job.Clock.events = Long.parseLong(given[2]);
    var options = Job.options(given, 5);
    long bucketMs = options.getOrDefault("ids", "hours").equals("window") ? 1 : HOUR.toMillis();
    boolean memory = options.getOrDefault("store", "memory").equals("memory");
    var settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-dedup-" + System.nanoTime());
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given[0]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, given[4]);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 10_000);
    settings.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 * 1_048_576);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * 1_048_576);

    Serde<Event> event =
        Serdes.serdeFrom(
            (topic, made) -> null,
            (topic, raw) ->
                Job.read(
                    raw,
                    (id, customer, at, tokens, latency) -> new Event(id, at, tokens, latency)));
    Serde<Cell> cell = Serdes.serdeFrom((topic, made) -> made.bytes(), (topic, raw) -> Cell.of(raw));
    Materialized<String, Cell, WindowStore<Bytes, byte[]>> kept =
        memory
            ? Materialized.as(Stores.inMemoryWindowStore("cells", DAY.plus(HOUR), HOUR, false))
            : Materialized.as("cells");
    var builder = new StreamsBuilder();
    KStream<String, Event> events =
        builder.stream(
            given[1],
            Consumed.with(Serdes.String(), event)
                .withTimestampExtractor((record, time) -> ((Event) record.value()).at()));
    builder.addStateStore(
        Stores.windowStoreBuilder(
            memory
                ? Stores.inMemoryWindowStore("ids", DAY.plus(HOUR), HOUR, false)
                : Stores.persistentWindowStore("ids", DAY.plus(HOUR), HOUR, false),
            Serdes.String(),
            Serdes.Long()));
    events
        .processValues(() -> new OnceInWindow(bucketMs), "ids")
        .groupByKey(Grouped.with(Serdes.String(), event))
        .windowedBy(TimeWindows.ofSizeAndGrace(HOUR, DAY))
        .aggregate(
            () -> Cell.EMPTY,
            (customer, each, held) -> held.add(each),
            kept.withKeySerde(Serdes.String()).withValueSerde(cell));
    var streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return null;
        });
    streams.start();
    Job.Clock.ENDED.await();
    Thread.sleep(300); // the last event's put follows its aggregator
    var store =
        streams.store(
            StoreQueryParameters.fromNameAndType("cells", QueryableStoreTypes.<String, Cell>windowStore()));
    try (Writer out = Files.newBufferedWriter(Path.of(given[3]));
        var all = store.all()) {
      while (all.hasNext()) {
        var next = all.next();
        Cell found = next.value;
        long hour = next.key.window().start() / 3_600_000;
        Job.line(out, next.key.key(), hour, found.count(), found.total(), found.peak());
      }
    }
    Job.Clock.tell(given[3]);
    Runtime.getRuntime().halt(0);
  }
}
