package peer;

import com.hazelcast.config.Config;
import com.hazelcast.config.SerializerConfig;
import com.hazelcast.core.Hazelcast;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.aggregate.AggregateOperation1;
import com.hazelcast.jet.config.EdgeConfig;
import com.hazelcast.jet.config.JobConfig;
import com.hazelcast.jet.config.ProcessingGuarantee;
import com.hazelcast.jet.kafka.KafkaSources;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.Sinks;
import com.hazelcast.jet.pipeline.WindowDefinition;
import com.hazelcast.nio.ObjectDataInput;
import com.hazelcast.nio.ObjectDataOutput;
import com.hazelcast.nio.serialization.StreamSerializer;
import java.io.IOException;
import java.io.Serializable;
import java.io.Writer;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Properties;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * The job on Hazelcast Jet, one embedded member with one cooperative thread: the ids of a customer
 * in a set, then hourly windows of the customer, exactly-once snapshots every ten seconds.
 *
 * <p>Arguments: bootstrap, topic, events, path of the cells. A customer's ids live for a day.
 */
public final class Jet {
  static final long HOUR = 3_600_000L;
  static final long DAY = 24 * HOUR;
  // Accumulators that events were added to, so that cells can be read before their windows close.
  // Jet aggregates in two steps; those of the second are only merged, and not in here.
  static final ConcurrentLinkedQueue<Cell> LIVE = new ConcurrentLinkedQueue<>();

  public static final class Event implements Serializable {
    public String id;
    public String customer;
    public long at;
    public BigDecimal tokens;
    public BigDecimal latency;
  }

  public static final class Cell implements Serializable {
    public long count;
    public BigDecimal total = BigDecimal.ZERO;
    public BigDecimal peak;
    public transient String customer;
    public transient long hour;

    void add(Event event) {
      if (count++ == 0) {
        customer = event.customer;
        hour = event.at / HOUR;
        LIVE.add(this);
      }
      if (event.tokens != null) {
        total = total.add(event.tokens);
      }
      if (event.latency != null) {
        peak = peak == null ? event.latency : peak.max(event.latency);
      }
    }

    Cell merge(Cell other) {
      count += other.count;
      total = total.add(other.total);
      if (other.peak != null) {
        peak = peak == null ? other.peak : peak.max(other.peak);
      }
      return this;
    }
  }

  public static final class Ids implements Serializable {
    public HashSet<String> seen = new HashSet<>();
  }

  /** What Java's own serialization would cost a snapshot is avoided, as the documentation advises. */
  public static final class CellSerializer implements StreamSerializer<Cell> {
    @Override
    public int getTypeId() {
      return 1001;
    }

    @Override
    public void write(ObjectDataOutput out, Cell cell) throws IOException {
      out.writeLong(cell.count);
      decimal(out, cell.total);
      out.writeBoolean(cell.peak != null);
      if (cell.peak != null) {
        decimal(out, cell.peak);
      }
    }

    @Override
    public Cell read(ObjectDataInput in) throws IOException {
      var made = new Cell();
      made.count = in.readLong();
      made.total = decimal(in);
      made.peak = in.readBoolean() ? decimal(in) : null;
      return made;
    }

    static void decimal(ObjectDataOutput out, BigDecimal number) throws IOException {
      out.writeInt(number.scale());
      out.writeByteArray(number.unscaledValue().toByteArray());
    }

    static BigDecimal decimal(ObjectDataInput in) throws IOException {
      int scale = in.readInt();
      return new BigDecimal(new BigInteger(in.readByteArray()), scale);
    }
  }

  /** The same for ids. */
  public static final class IdsSerializer implements StreamSerializer<Ids> {
    @Override
    public int getTypeId() {
      return 1002;
    }

    @Override
    public void write(ObjectDataOutput out, Ids ids) throws IOException {
      out.writeInt(ids.seen.size());
      for (String id : ids.seen) {
        out.writeString(id);
      }
    }

    @Override
    public Ids read(ObjectDataInput in) throws IOException {
      var made = new Ids();
      for (int left = in.readInt(); left > 0; left--) {
        made.seen.add(in.readString());
      }
      return made;
    }
  }

  static final AggregateOperation1<Event, Cell, Cell> FOLD =
      AggregateOperation.withCreate(Cell::new)
          .<Event>andAccumulate((cell, event) -> cell.add(event))
          .andCombine(Cell::merge)
          .andExportFinish(cell -> cell);

  static Event read(ConsumerRecord<byte[], byte[]> record) {
    return Job.read(
        record.value(),
        (id, customer, at, tokens, latency) -> {
          var made = new Event();
          made.id = id;
          made.customer = customer;
          made.at = at;
          made.tokens = tokens;
          made.latency = latency;
          return made;
        });
  }

  static Config settings() {
    var made = new Config();
    made.setProperty("hazelcast.phone.home.enabled", "false");
    made.setProperty("hazelcast.logging.type", "none");
    made.setProperty("hazelcast.partition.count", "31");
    made.setClusterName("peer-" + System.nanoTime());
    made.getNetworkConfig().setPort(15701).setPortAutoIncrement(true);
    made.getNetworkConfig().getInterfaces().setEnabled(true).addInterface("127.0.0.1");
    made.getNetworkConfig().getJoin().getMulticastConfig().setEnabled(false);
    made.getNetworkConfig().getJoin().getTcpIpConfig().setEnabled(false);
    made.getNetworkConfig().getJoin().getAutoDetectionConfig().setEnabled(false);
    made.getJetConfig().setEnabled(true).setCooperativeThreadCount(1).setBackupCount(0);
    made.getJetConfig().setDefaultEdgeConfig(new EdgeConfig().setQueueSize(8192));
    made.getSerializationConfig()
        .addSerializerConfig(
            new SerializerConfig()
                .setTypeClass(Cell.class)
                .setImplementation(new CellSerializer()))
        .addSerializerConfig(
            new SerializerConfig().setTypeClass(Ids.class).setImplementation(new IdsSerializer()));
    return made;
  }

  public static void main(String[] given) throws Exception {
    Job.Clock.events = Long.parseLong(given[2]);
    var kafka = new Properties();
    kafka.setProperty("bootstrap.servers", given[0]);
    kafka.setProperty("key.deserializer", ByteArrayDeserializer.class.getName());
    kafka.setProperty("value.deserializer", ByteArrayDeserializer.class.getName());
    kafka.setProperty("auto.offset.reset", "earliest");
    kafka.setProperty("group.id", "peer-jet-" + System.nanoTime());
    kafka.setProperty("max.poll.records", "10000");
    kafka.setProperty("max.partition.fetch.bytes", "4194304");
    var pipeline = Pipeline.create();
    pipeline
        .readFrom(KafkaSources.<byte[], byte[], Event>kafka(kafka, Jet::read, given[1]))
        .withTimestamps(event -> event.at, DAY)
        .setLocalParallelism(1)
        .groupingKey(event -> event.customer)
        .<Ids, Event>mapStateful(
            DAY,
            Ids::new,
            (ids, customer, event) -> {
              Job.Clock.tick();
              return ids.seen.add(event.id) ? event : null;
            },
            null)
        .setLocalParallelism(1)
        .groupingKey(event -> event.customer)
        .window(WindowDefinition.tumbling(HOUR))
        .aggregate(FOLD)
        .setLocalParallelism(1)
        .writeTo(Sinks.noop());
    var job =
        new JobConfig()
            .setName("peer")
            .setSnapshotIntervalMillis(10_000)
            .setProcessingGuarantee(ProcessingGuarantee.EXACTLY_ONCE);
    Hazelcast.newHazelcastInstance(settings())
        .getJet()
        .newJob(pipeline, job)
        .getFuture()
        .whenComplete(
            (nothing, error) -> {
              if (error != null) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
              }
            });
    Job.Clock.ENDED.await();
    Thread.sleep(3000); // what the check has let through reaches its window; not timed
    var merged = new HashMap<String, Cell>();
    for (Cell cell : LIVE) {
      merged.merge(cell.customer + '|' + cell.hour, cell, Cell::merge);
    }
    try (Writer out = Files.newBufferedWriter(Path.of(given[3]))) {
      for (Cell cell : merged.values()) {
        Job.line(out, cell.customer, cell.hour, cell.count, cell.total, cell.peak);
      }
    }
    Job.Clock.tell(given[3]);
    Runtime.getRuntime().halt(0);
  }
}
