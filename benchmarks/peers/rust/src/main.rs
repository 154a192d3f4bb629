//! The limit of one process: rdkafka, one application thread, serde, hash maps.
//!
//! Arguments: bootstrap, topic, events, path of the cells, partitions. Exact: decimals as i128
//! billionths (a number that does not fit ends the run). Each id is counted once: its 128-bit hash
//! joins a set. No commits, no fates, no store, no check but that one: what a process can do at most.
use hashbrown::{HashMap, HashSet};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    transaction_id: Cow<'a, str>,
    #[serde(borrow)]
    customer_id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    properties: Usage<'a>,
}

#[derive(Deserialize)]
struct Usage<'a> {
    #[serde(borrow, default)]
    tokens: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    latency: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    region: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy)]
struct Cell {
    count: u64,
    sum: i128,
    peak: Option<i128>,
}

const SCALE: i128 = 1_000_000_000;

fn decimal(text: &[u8]) -> i128 {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        _ => (false, text),
    };
    let mut made: i64 = 0;
    let mut after: Option<u32> = None;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                made = made
                    .checked_mul(10)
                    .and_then(|made| made.checked_add((byte - b'0') as i64))
                    .expect("long");
                if let Some(count) = after.as_mut() {
                    *count += 1;
                }
            }
            b'.' if after.is_none() => after = Some(0),
            _ => panic!("not a plain number: {}", String::from_utf8_lossy(text)),
        }
    }
    let after = after.unwrap_or(0);
    assert!(after <= 9, "more than nine digits after the point");
    let made = made as i128 * 10i128.pow(9 - after);
    if negative {
        -made
    } else {
        made
    }
}

fn plain(number: i128) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let number = number.abs();
    format!("{sign}{}.{:09}", number / SCALE, number % SCALE)
}

fn two(text: &[u8], at: usize) -> i64 {
    (text[at] - b'0') as i64 * 10 + (text[at + 1] - b'0') as i64
}

/// The hour since 1970 of `2026-11-25T10:00:00.123+00:00`; nothing else is known here.
fn hour(text: &[u8]) -> i32 {
    assert!(text.len() == 29 && &text[23..] == b"+00:00");
    let year = two(text, 0) * 100 + two(text, 2);
    let (month, day) = (two(text, 5), two(text, 8));
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted / 400;
    let of_era = shifted - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (days * 24 + two(text, 11)) as i32
}

fn now() -> (Instant, f64) {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (
        Instant::now(),
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
    )
}

struct Fold {
    // customers by number, so that a cell's key is two integers
    customers: HashMap<Box<str>, u32, ahash::RandomState>,
    names: Vec<Box<str>>,
    cells: HashMap<(u32, i32), Cell, ahash::RandomState>,
    seen: HashSet<u128, ahash::RandomState>,
    hashers: [ahash::RandomState; 2],
}

impl Fold {
    fn take(&mut self, event: &Event) {
        let (id, customer) = (event.transaction_id.as_ref(), event.customer_id.as_ref());
        let usage = &event.properties;
        let high = self.hashers[0].hash_one(id) as u128;
        let low = self.hashers[1].hash_one(id) as u128;
        if !self.seen.insert(high << 64 | low) {
            return;
        }
        let number = match self.customers.get(customer) {
            Some(&number) => number,
            None => {
                let number = self.names.len() as u32;
                self.customers.insert(customer.into(), number);
                self.names.push(customer.into());
                number
            }
        };
        let cell = self
            .cells
            .entry((number, hour(event.timestamp.as_bytes())))
            .or_insert(Cell {
                count: 0,
                sum: 0,
                peak: None,
            });
        cell.count += 1;
        if let Some(tokens) = &usage.tokens {
            cell.sum += decimal(tokens.as_bytes());
        }
        if let (Some(raw), Some("eu-central-1" | "us-east-1")) =
            (usage.latency, usage.region.as_deref())
        {
            let latency = decimal(raw.get().trim_matches('"').as_bytes());
            if cell.peak.is_none_or(|peak| latency > peak) {
                cell.peak = Some(latency);
            }
        }
    }
}

fn main() {
    let given: Vec<String> = std::env::args().collect();
    let (bootstrap, topic, events, path) = (
        &given[1],
        &given[2],
        given[3].parse::<u64>().unwrap(),
        &given[4],
    );
    let partitions: i32 = given[5].parse().unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bare-consumer")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.min.messages", "200000")
        .set("queued.max.messages.kbytes", "131072")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for number in 0..partitions {
        list.add_partition_offset(topic, number, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();

    let mut fold = Fold {
        customers: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
        names: Vec::new(),
        cells: HashMap::with_hasher(ahash::RandomState::with_seeds(5, 6, 7, 8)),
        seen: HashSet::with_hasher(ahash::RandomState::with_seeds(9, 10, 11, 12)),
        hashers: [
            ahash::RandomState::with_seeds(13, 14, 15, 16),
            ahash::RandomState::with_seeds(17, 18, 19, 20),
        ],
    };
    let mut done = 0u64;
    let (mut began, mut half) = (now(), now());
    let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let mut batch: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); 10_000];
    let mut first = true;
    while done < events {
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(queue, 1000, batch.as_mut_ptr(), batch.len())
        };
        for &message in &batch[..count.max(0) as usize] {
            let payload: &[u8] = unsafe {
                let message = &*message;
                if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    panic!("{:?}", message.err);
                }
                std::slice::from_raw_parts(message.payload as *const u8, message.len)
            };
            if first {
                began = now();
                first = false;
            }
            let event: Event = serde_json::from_slice(payload).expect("an event");
            fold.take(&event);
            unsafe { sys::rd_kafka_message_destroy(message) };
            done += 1;
            if done == events / 2 {
                half = now();
            }
        }
    }
    let ended = now();
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for (&(customer, hour), cell) in &fold.cells {
        let peak = cell
            .peak
            .map_or("null".to_string(), |peak| format!("\"{}\"", plain(peak)));
        writeln!(
            out,
            "[\"{}\",{hour},{},\"{}\",{peak}]",
            fold.names[customer as usize],
            cell.count,
            plain(cell.sum)
        )
        .unwrap();
    }
    out.flush().unwrap();
    std::fs::write(
        format!("{path}.json"),
        format!(
            "{{\"events\":{done},\"seconds\":{:.6},\"cpu\":{:.6},\"half_seconds\":{:.6},\"half_cpu\":{:.6}}}",
            (ended.0 - began.0).as_secs_f64(),
            ended.1 - began.1,
            (ended.0 - half.0).as_secs_f64(),
            ended.1 - half.1
        ),
    )
    .unwrap();
    std::process::exit(0);
}
