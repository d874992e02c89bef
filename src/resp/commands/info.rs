//! `INFO`: what libraries and operators read about the server.

use std::fmt::Write;

use super::VERSION;
use crate::base::process::{machine_memory, resident_bytes};
use crate::kv::Reply;
use crate::kv::config::DATABASES;
use crate::resp::connection::Connection;
use crate::resp::server::Server;

const SECTIONS: [&str; 12] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "modules",
    "commandstats",
    "errorstats",
    "latencystats",
    "cluster",
    "keyspace",
];

/// Sections that come only when they are asked for.
const LONG: [&str; 2] = ["commandstats", "latencystats"];

/// `INFO [section …]`.
pub fn run(server: &Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let names: Vec<String> = arguments.iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    let has = |names_of: &[&str]| names.iter().any(|name| names_of.contains(&name.as_str()));
    let whole = has(&["all", "everything"]);
    let every = names.is_empty() || has(&["default"]);
    let mut text = String::new();
    for section in SECTIONS {
        if whole || every && !LONG.contains(&section) || has(&[section]) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            for line in lines(server, connection, section).lines() {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
    }
    connection.encoder().verbatim(text.as_bytes());
}

fn lines(server: &Server, connection: &Connection, section: &str) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = match section {
        "server" => about_server(&mut out, server),
        "clients" => about_clients(&mut out, server, connection),
        "memory" => about_memory(&mut out, server, connection),
        "persistence" => about_persistence(&mut out, server),
        "stats" => about_stats(&mut out, server),
        "replication" => out.write_str(
            "# Replication\nrole:master\nconnected_slaves:0\nmaster_failover_state:no-failover\nmaster_repl_offset:0\n\
             second_repl_offset:-1\nrepl_backlog_active:0\n",
        ),
        "modules" => out.write_str("# Modules\n"),
        "commandstats" => about_commands(&mut out, server),
        "errorstats" => about_errors(&mut out, server),
        "latencystats" => about_latencies(&mut out, server),
        "cluster" => out.write_str("# Cluster\ncluster_enabled:0\n"),
        _ => about_keyspace(&mut out, server),
    };
    out
}

fn about_server(out: &mut String, server: &Server) -> std::fmt::Result {
    let uptime = server.now.saturating_sub(server.stats.started).as_secs();
    writeln!(
        out,
        "# Server\nredis_version:{VERSION}\nredis_mode:standalone\nserver_name:mainstay\nserver_version:{}\nos:{} {}\n\
         arch_bits:{}\nmultiplexing_api:epoll\nprocess_id:{}\ntcp_port:{}\nserver_time_usec:{}\nuptime_in_seconds:{uptime}\n\
         uptime_in_days:{}\nhz:10\nconfigured_hz:10\nexecutable:\nconfig_file:\nio_threads_active:0",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        usize::BITS,
        std::process::id(),
        server.port(),
        server.clock.now().millis() * 1000,
        uptime / 86_400,
    )
}

fn about_clients(out: &mut String, server: &Server, connection: &Connection) -> std::fmt::Result {
    let others = server.connections.iter().flatten().map(|other| &**other);
    let subscribed =
        others.chain(std::iter::once(connection)).filter(|client| client.client.subscriptions() > 0).count();
    writeln!(
        out,
        "# Clients\nconnected_clients:{}\ncluster_connections:0\nmaxclients:{}\nblocked_clients:{}\ntracking_clients:0\n\
         pubsub_clients:{subscribed}",
        server.by_id.len(),
        server.config.max_clients,
        server.keyspace.blocked_clients(),
    )
}

fn about_memory(out: &mut String, server: &Server, connection: &Connection) -> std::fmt::Result {
    let keyspace = &server.keyspace;
    let (dataset, startup) = (keyspace.used(), keyspace.memory_of_program());
    // What is compared with `maxmemory`.
    let used = dataset + startup;
    let (scripts, texts, lua) = keyspace.script_info();
    let (libraries, functions, lua_of_functions) = keyspace.function_info();
    let most = keyspace.memory_limit();
    let resident = resident_bytes().map_or(used as u64, |bytes| bytes as u64);
    let total = machine_memory().map_or(0, |(total, _)| total);
    let peak = server.stats.peak.max(used);
    let own = keyspace.database_info(connection.client.db);
    writeln!(
        out,
        "# Memory\nused_memory:{used}\nused_memory_human:{}\nused_memory_rss:{resident}\nused_memory_rss_human:{}\n\
         used_memory_peak:{peak}\nused_memory_peak_human:{}\nused_memory_startup:{startup}\nused_memory_dataset:{dataset}\nused_memory_database:{}\n\
         total_system_memory:{total}\ntotal_system_memory_human:{}\nused_memory_lua:{lua}\nused_memory_lua_human:{}\nused_memory_vm_eval:{lua}\n\
         used_memory_scripts:{texts}\nnumber_of_cached_scripts:{scripts}\nused_memory_vm_functions:{lua_of_functions}\n\
         number_of_functions:{functions}\nnumber_of_libraries:{libraries}\n\
         maxmemory:{most}\n\
         maxmemory_human:{}\nmaxmemory_policy:{}\nmem_fragmentation_ratio:{:.2}\nmem_fragmentation_bytes:{}\n\
         mem_allocator:jemalloc\nactive_defrag_running:0",
        human(used as u64),
        human(resident),
        human(peak as u64),
        own.memory,
        human(total),
        human(lua as u64),
        human(most as u64),
        keyspace.policy(connection.client.db).name(),
        resident as f64 / used.max(1) as f64,
        resident.saturating_sub(used as u64),
    )?;
    let cold_keys: usize = (0..DATABASES).map(|db| keyspace.database_info(db).cold).sum();
    let counts = keyspace.cold().map(crate::kv::cold::Cold::counts).unwrap_or_default();
    writeln!(
        out,
        "cold_keys:{cold_keys}\ncold_keys_database:{}\ncold_disk_bytes:{}\ncold_written_values:{}\ncold_dropped_values:{}\n\
         cold_read_values:{}\ncold_failed_reads:{}\ncold_compacted_files:{}",
        own.cold,
        keyspace.cold().map_or(0, crate::kv::cold::Cold::bytes),
        counts.written,
        counts.dropped,
        counts.read,
        counts.failed,
        counts.compacted,
    )
}

fn about_persistence(out: &mut String, server: &Server) -> std::fmt::Result {
    let status = server.persistence.status();
    let written = if server.refusal.is_none() { "ok" } else { "err" };
    let checkpoint = if status.checkpoint_failed { "err" } else { "ok" };
    writeln!(
        out,
        "# Persistence\nloading:0\nasync_loading:0\nrdb_changes_since_last_save:0\nrdb_bgsave_in_progress:{}\n\
         rdb_last_save_time:{}\nrdb_last_bgsave_status:{checkpoint}\nrdb_saves:{}\naof_enabled:1\n\
         aof_rewrite_in_progress:{}\naof_rewrite_scheduled:0\naof_last_bgrewrite_status:{checkpoint}\n\
         aof_last_write_status:{written}\naof_current_size:{}\naof_base_size:{}\nloaded_keys:{}\nloaded_bytes:{}\n\
         loaded_milliseconds:{}",
        u8::from(status.checkpointing),
        server.stats.last_save,
        status.checkpoints,
        u8::from(status.checkpointing),
        status.journal_bytes,
        status.checkpoint.map_or(0, |checkpoint| checkpoint.bytes),
        server.loaded.keys,
        server.loaded.checkpoint_bytes + server.loaded.journal_bytes,
        server.loaded.took.as_millis(),
    )
}

fn about_stats(out: &mut String, server: &Server) -> std::fmt::Result {
    let counts = server.keyspace.counts();
    let stats = &server.stats;
    writeln!(
        out,
        "# Stats\ntotal_connections_received:{}\ntotal_commands_processed:{}\ninstantaneous_ops_per_sec:{}\n\
         total_net_input_bytes:{}\ntotal_net_output_bytes:{}\nrejected_connections:{}\nexpired_keys:{}\nevicted_keys:{}\n\
         keyspace_hits:{}\nkeyspace_misses:{}\ntotal_error_replies:{}\nlatest_fork_usec:0\ntotal_forks:0",
        stats.connections,
        stats.commands,
        stats.per_second,
        stats.bytes_in,
        stats.bytes_out,
        stats.rejected.value(),
        counts.expired,
        counts.evicted,
        counts.hits,
        counts.misses,
        stats.errors,
    )
}

fn about_commands(out: &mut String, server: &Server) -> std::fmt::Result {
    out.push_str("# Commandstats\n");
    for (name, figure) in server.figures.commands() {
        let each = figure.micros as f64 / figure.calls.max(1) as f64;
        writeln!(
            out,
            "cmdstat_{name}:calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
            figure.calls, figure.micros, figure.rejected, figure.failed,
        )?;
    }
    Ok(())
}

fn about_errors(out: &mut String, server: &Server) -> std::fmt::Result {
    out.push_str("# Errorstats\n");
    server.figures.errors().try_for_each(|(word, count)| writeln!(out, "errorstat_{word}:count={count}"))
}

/// Times are the upper ends of the buckets they fell into, each twice the one before.
fn about_latencies(out: &mut String, server: &Server) -> std::fmt::Result {
    out.push_str("# Latencystats\n");
    for (name, figure) in server.figures.commands().into_iter().filter(|(_, figure)| figure.calls > 0) {
        let at = |thousandths| figure.percentile(thousandths) as f64;
        writeln!(out, "latency_percentiles_usec_{name}:p50={:.3},p99={:.3},p99.9={:.3}", at(500), at(990), at(999))?;
    }
    Ok(())
}

fn about_keyspace(out: &mut String, server: &Server) -> std::fmt::Result {
    out.push_str("# Keyspace\n");
    for db in 0..DATABASES {
        let info = server.keyspace.database_info(db);
        if info.keys > 0 {
            writeln!(out, "db{db}:keys={},expires={},avg_ttl=0", info.keys, info.expiring)?;
        }
    }
    Ok(())
}

/// As Redis shows sizes: `1.50M`.
fn human(bytes: u64) -> String {
    let (size, unit) = match bytes {
        0..1_024 => return format!("{bytes}B"),
        1_024..1_048_576 => (1_024, 'K'),
        1_048_576..1_073_741_824 => (1_048_576, 'M'),
        _ => (1_073_741_824, 'G'),
    };
    format!("{:.2}{unit}", bytes as f64 / f64::from(size))
}
