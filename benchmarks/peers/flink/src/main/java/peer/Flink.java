package peer;

import java.io.Writer;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.api.java.tuple.Tuple5;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * The job on Flink's DataStream API, in an embedded cluster of one process, parallelism 1: cells of
 * a customer in a map, the ids of the customer in another, exactly-once checkpoints every ten
 * seconds. A cell comes out when its hour is over.
 *
 * <p>Arguments: bootstrap, topic, events, path of the cells, folder, then NAME=VALUE:
 * state=heap|rocksdb; chained=yes|no (yes: keyed without a shuffle, which is right for one task
 * only). An id lives for a day. Object reuse is on, as the documentation advises for such jobs.
 */
public final class Flink {
  static final long HOUR = 3_600_000L;
  static final Duration DAY = Duration.ofHours(24);
  static final Map<String, Tuple5<String, Long, Long, BigDecimal, BigDecimal>> OUT =
      new ConcurrentHashMap<>(1 << 16);

  // customer, id, time, tokens, latency
  static final TypeInformation<Tuple5<String, String, Long, BigDecimal, BigDecimal>> EVENT =
      Types.TUPLE(Types.STRING, Types.STRING, Types.LONG, Types.BIG_DEC, Types.BIG_DEC);
  // count, sum, peak
  static final TypeInformation<Tuple3<Long, BigDecimal, BigDecimal>> CELL =
      Types.TUPLE(Types.LONG, Types.BIG_DEC, Types.BIG_DEC);
  // customer, hour, count, sum, peak
  static final TypeInformation<Tuple5<String, Long, Long, BigDecimal, BigDecimal>> RESULT =
      Types.TUPLE(Types.STRING, Types.LONG, Types.LONG, Types.BIG_DEC, Types.BIG_DEC);

  public static final class Read
      implements KafkaRecordDeserializationSchema<
          Tuple5<String, String, Long, BigDecimal, BigDecimal>> {
    @Override
    public void deserialize(
        ConsumerRecord<byte[], byte[]> record,
        Collector<Tuple5<String, String, Long, BigDecimal, BigDecimal>> out) {
      out.collect(
          Job.read(
              record.value(),
              (id, customer, at, tokens, latency) ->
                  new Tuple5<>(customer, id, at, tokens, latency)));
    }

    @Override
    public TypeInformation<Tuple5<String, String, Long, BigDecimal, BigDecimal>> getProducedType() {
      return EVENT;
    }
  }

  /** A timer only for a new cell. */
  public static final class Fold
      extends KeyedProcessFunction<
          String,
          Tuple5<String, String, Long, BigDecimal, BigDecimal>,
          Tuple5<String, Long, Long, BigDecimal, BigDecimal>> {
    final boolean background;
    transient MapState<Long, Tuple3<Long, BigDecimal, BigDecimal>> cells;
    transient MapState<String, Boolean> seen;

    /**
     * background: ids are cleaned up as Flink does it by default. On the heap a map of ids is one
     * entry, and looking at five entries an access walks five whole maps; so there they go when
     * they are read or in a snapshot, which is five times as fast.
     */
    Fold(boolean background) {
      this.background = background;
    }

    @Override
    public void open(OpenContext context) {
      cells = getRuntimeContext().getMapState(new MapStateDescriptor<>("cells", Types.LONG, CELL));
      var ttl =
          StateTtlConfig.newBuilder(DAY)
              .setUpdateType(StateTtlConfig.UpdateType.OnCreateAndWrite)
              .setStateVisibility(StateTtlConfig.StateVisibility.NeverReturnExpired);
      if (!background) {
        ttl.disableCleanupInBackground().cleanupFullSnapshot();
      }
      var named = new MapStateDescriptor<>("seen", Types.STRING, Types.BOOLEAN);
      named.enableTimeToLive(ttl.build());
      seen = getRuntimeContext().getMapState(named);
    }

    @Override
    public void processElement(
        Tuple5<String, String, Long, BigDecimal, BigDecimal> event,
        Context context,
        Collector<Tuple5<String, Long, Long, BigDecimal, BigDecimal>> out)
        throws Exception {
      if (!seen.contains(event.f1)) {
        seen.put(event.f1, true);
        long hour = event.f2 / HOUR;
        var cell = cells.get(hour);
        if (cell == null) {
          cell = new Tuple3<>(0L, BigDecimal.ZERO, null);
          context.timerService().registerEventTimeTimer((hour + 1) * HOUR - 1);
        }
        cell.f0 = cell.f0 + 1;
        if (event.f3 != null) {
          cell.f1 = cell.f1.add(event.f3);
        }
        if (event.f4 != null && (cell.f2 == null || event.f4.compareTo(cell.f2) > 0)) {
          cell.f2 = event.f4;
        }
        cells.put(hour, cell);
      }
      Job.Clock.tick();
    }

    @Override
    public void onTimer(
        long time,
        OnTimerContext context,
        Collector<Tuple5<String, Long, Long, BigDecimal, BigDecimal>> out)
        throws Exception {
      long hour = (time + 1) / HOUR - 1;
      var cell = cells.get(hour);
      out.collect(new Tuple5<>(context.getCurrentKey(), hour, cell.f0, cell.f1, cell.f2));
      cells.remove(hour);
    }
  }

  public static final class Keep
      implements Sink<Tuple5<String, Long, Long, BigDecimal, BigDecimal>> {
    @Override
    public SinkWriter<Tuple5<String, Long, Long, BigDecimal, BigDecimal>> createWriter(
        WriterInitContext context) {
      return new SinkWriter<>() {
        @Override
        public void write(
            Tuple5<String, Long, Long, BigDecimal, BigDecimal> cell, Context ignored) {
          OUT.put(cell.f0 + '|' + cell.f1, cell.copy());
        }

        @Override
        public void flush(boolean ended) {}

        @Override
        public void close() {}
      };
    }
  }

  static Configuration settings(String folder, boolean rocksdb) {
    var made = new Configuration();
    made.setString("pipeline.object-reuse", "true");
    made.setString("pipeline.generic-types", "false");
    made.setString("taskmanager.memory.managed.size", rocksdb ? "768m" : "256m");
    made.setString("taskmanager.memory.network.min", "128m");
    made.setString("taskmanager.memory.network.max", "128m");
    made.setString("state.backend.type", rocksdb ? "rocksdb" : "hashmap");
    made.setString("state.backend.rocksdb.localdir", folder + "/rocksdb");
    made.setString("execution.checkpointing.dir", "file://" + folder + "/checkpoints");
    made.setString("execution.checkpointing.storage", "filesystem");
    made.setString("execution.checkpointing.interval", "10 s");
    made.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
    made.setString("execution.checkpointing.incremental", Boolean.toString(rocksdb));
    made.setString("io.tmp.dirs", folder + "/tmp");
    made.setString("restart-strategy.type", "none");
    made.setString("rest.bind-address", "127.0.0.1");
    made.setString("rest.address", "127.0.0.1");
    return made;
  }

  public static void main(String[] given) throws Exception {
    Job.Clock.events = Long.parseLong(given[2]);
    var options = Job.options(given, 5);
    boolean rocksdb = options.get("state").equals("rocksdb");
    var env = StreamExecutionEnvironment.createLocalEnvironment(1, settings(given[4], rocksdb));
    var source =
        KafkaSource.<Tuple5<String, String, Long, BigDecimal, BigDecimal>>builder()
            .setBootstrapServers(given[0])
            .setTopics(given[1])
            .setGroupId("peer-flink-" + System.nanoTime())
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setBounded(OffsetsInitializer.latest())
            .setDeserializer(new Read())
            .setProperty("max.poll.records", "10000")
            .setProperty("max.partition.fetch.bytes", "4194304")
            .setProperty("fetch.max.bytes", "16777216")
            .build();
    var marks =
        WatermarkStrategy
            .<Tuple5<String, String, Long, BigDecimal, BigDecimal>>forBoundedOutOfOrderness(DAY)
            .withTimestampAssigner((event, before) -> event.f2);
    DataStream<Tuple5<String, String, Long, BigDecimal, BigDecimal>> events =
        env.fromSource(source, marks, "usage");
    var keyed =
        options.get("chained").equals("yes")
            ? DataStreamUtils.reinterpretAsKeyedStream(events, event -> event.f0, Types.STRING)
            : events.keyBy(event -> event.f0);
    keyed.process(new Fold(rocksdb)).returns(RESULT).sinkTo(new Keep());
    env.execute("peer");
    try (Writer out = Files.newBufferedWriter(Path.of(given[3]))) {
      for (var cell : OUT.values()) {
        Job.line(out, cell.f0, cell.f1, cell.f2, cell.f3, cell.f4);
      }
    }
    Job.Clock.tell(given[3]);
    Runtime.getRuntime().halt(0);
  }
}
