//! A Postgres server of the tests' own: a private cluster on a free port, which ends with the process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs the server until its standard input ends, which it does with whoever has started it. It does not run as root.
const SCRIPT: &str = r#"
set -eu
bin=$1 home=$(mktemp -d /tmp/yagura-postgres-XXXXXX)
run=
if [ "$(id -u)" = 0 ]; then chown postgres "$home"; run="setpriv --reuid=postgres --regid=postgres --clear-groups"; fi
cd "$home"
$run "$bin/initdb" -D "$home/data" -U yagura -A trust -E UTF8 --no-locale -N >"$home/log" 2>&1
$run "$bin/postgres" -D "$home/data" -k "$home" -c listen_addresses= -c fsync=off -c max_connections=500 \
    -c shared_buffers=64MB -c full_page_writes=on >>"$home/log" 2>&1 </dev/null &
server=$!
until [ -S "$home/.s.PGSQL.5432" ] && "$bin/pg_isready" -q -h "$home"; do kill -0 $server; sleep 0.05; done
echo "$home"
cat >/dev/null || true
kill -INT $server
wait $server || true
rm -rf "$home"
"#;

/// The folder of the server's socket; `None` where no Postgres is installed.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(Child, String)>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let Some(bin) = programs() else {
            assert!(
                std::env::var_os("YAGURA_POSTGRES_REQUIRED").is_none(),
                "no Postgres is installed; on Debian: apt-get install postgresql"
            );
            eprintln!("no Postgres is installed: what tests the Postgres engine is left out");
            return None;
        };
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "server"]).arg(bin).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut home = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut home).unwrap();
        assert!(home.starts_with('/'), "the Postgres server of the tests did not start");
        Some((child, home.trim_end().to_owned()))
    });
    server.as_ref().map(|(_, home)| home.as_str())
}

/// The folder of the newest Postgres that is installed, as Debian has them.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(number)?;
    Some(newest.join("bin")).filter(|bin| bin.join("initdb").exists())
}

/// The URL of a new store, after `://`; `None` where no Postgres is installed.
pub(in crate::engines) fn new_store() -> Option<String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let (home, number) = (server()?, COUNT.fetch_add(1, Ordering::Relaxed));
    let host = home.replace('/', "%2F");
    let name = format!("test_{number}");
    Some(format!("yagura@{host}/postgres?schema={name}&application_name={name}&sslmode=disable"))
}
