//! What `assay doctor` finds of PostgreSQL. All it writes is rolled back.
//!
//! - `rights`: what the user may do; `pooler`: whether a pooler stands in front
//! - `copy_rate`: how many rows a second the server takes by COPY, if that is asked for

pub(crate) mod copy_rate;
mod pooler;
mod rights;

use std::time::{Duration, SystemTime};

use assay_connect::diagnosis::judge_clock;
use assay_connect::{Diagnosis, Finding, Role};
use sqlx::{Connection as _, PgConnection};

use super::PostgresServer;
use super::begin::{READING, WRITING};
use super::pool::HAZARDS;
use super::sql::migrations::check;
use crate::diagnose::BOOK;
use crate::schema;
use crate::{ErrorClass, StoreError};

/// The checks, in their order.
pub(crate) const CHECKS: [&str; 9] =
    ["connection", "version", "pooler", "tables", "rights", "write", "durability", "connections", "clock"];
/// The oldest version that Assay is tested with.
const OLDEST: i32 = 13;

/// What the server says of itself. Each limit is -1 where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    version_number: i32,
    version: String,
    is_standby: bool,
    max_connections: i32,
    reserved: i32,
    used: i64,
    user_limit: i32,
    database_limit: i32,
    now_us: i64,
}

/// A row of [`FACTS`].
type FactsRow = (i32, String, bool, i32, i32, i64, i32, i32, i64);

impl From<FactsRow> for Facts {
    fn from(row: FactsRow) -> Self {
        let (version_number, version, is_standby, max_connections, reserved, used, user_limit, database_limit, now_us) =
            row;
        Self {
            version_number,
            version,
            is_standby,
            max_connections,
            reserved,
            used,
            user_limit,
            database_limit,
            now_us,
        }
    }
}

const FACTS: &str = "
    SELECT current_setting('server_version_num')::int AS version_number, current_setting('server_version') AS version,
        pg_is_in_recovery() AS is_standby, current_setting('max_connections')::int AS max_connections,
        current_setting('superuser_reserved_connections')::int AS reserved,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
        coalesce((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1) AS user_limit,
        coalesce((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1) AS database_limit,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us";
const COMMITS: &str = "SELECT current_setting('synchronous_commit')";

/// Checks a server, for one program or for all, each of which takes up to so many connections. Each step takes at most `limit`.
pub(crate) async fn diagnose(
    server: &PostgresServer,
    connections: u32,
    role: Option<Role>,
    limit: Duration,
) -> Vec<Finding> {
    let mut diagnosis = Diagnosis::new(&CHECKS, limit);
    if let Some(mut connection) = diagnosis.step("connection", server.connect_once(limit)).await {
        diagnosis.add(Finding::ok("connection", format!("{}, as user `{}`", server.database(), server.user())));
        check_server(&mut diagnosis, server, &mut connection, connections).await;
        check_pooler(&mut diagnosis, server, &mut connection, limit).await;
        if check_tables(&mut diagnosis, server, &mut connection).await {
            rights::check(&mut diagnosis, server, &mut connection, role).await;
            check_write(&mut diagnosis, server, &mut connection).await;
        }
        // Nothing is open.
        let _ = connection.close().await;
    }
    diagnosis.finish()
}

async fn check_server(
    diagnosis: &mut Diagnosis,
    server: &PostgresServer,
    connection: &mut PgConnection,
    connections: u32,
) {
    let before = SystemTime::now();
    let asking = async {
        let mut reading = connection.begin_with(server.opening().statement(READING)).await?;
        let facts: FactsRow = sqlx::query_as(FACTS).fetch_one(&mut *reading).await?;
        let hazards: Vec<String> = sqlx::query_scalar(HAZARDS).fetch_all(&mut *reading).await?;
        reading.commit().await?;
        Ok::<_, StoreError>((Facts::from(facts), hazards))
    };
    let Some((facts, hazards)) = diagnosis.step("version", asking).await else { return };
    let ours = before + before.elapsed().unwrap_or_default() / 2;
    diagnosis.add(judge_version(&facts));
    diagnosis.add_all(judge_hazards(&hazards));
    diagnosis.add(judge_connections(&facts, connections));
    let theirs = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(facts.now_us).unwrap_or_default());
    diagnosis.add(judge_clock("clock", "PostgreSQL", theirs, ours, None));
}

fn judge_version(facts: &Facts) -> Finding {
    const CHECK: &str = "version";
    let found = format!("PostgreSQL {}", facts.version);
    if facts.version_number / 10_000 < OLDEST {
        return Finding::failed(CHECK, found, format!("update to PostgreSQL {OLDEST} or later"));
    }
    if facts.is_standby {
        return Finding::failed(
            CHECK,
            format!("{found}, a standby that takes no writes"),
            "give the address of the primary in DATABASE_URL",
        );
    }
    Finding::ok(CHECK, found)
}

/// Only what is off: what a commit waits for is found with the write.
fn judge_hazards(hazards: &[String]) -> Vec<Finding> {
    let warning = |setting: &String| {
        let found = format!("{setting} is off: a crash of its machine may lose committed rows");
        Finding::warning("durability", found, "turn it on in postgresql.conf")
    };
    hazards.iter().map(warning).collect()
}

/// Whether a program finds as many connections as it may take.
fn judge_connections(facts: &Facts, needed: u32) -> Finding {
    const CHECK: &str = "connections";
    let Facts { max_connections, reserved, used, user_limit, database_limit, .. } = facts;
    let of_server = i64::from(max_connections - reserved);
    let limits = [of_server, i64::from(*user_limit), i64::from(*database_limit)];
    let usable = limits.into_iter().filter(|limit| *limit >= 0).min().unwrap_or(of_server);
    let free = (usable - used).max(0);
    let found = format!("{free} of {usable} are free, and each program takes up to {needed} (DB_CONNECTIONS)");
    if free < i64::from(needed) {
        let remedy = "raise max_connections (or the limit of the user or the database), lower DB_CONNECTIONS, or put PgBouncer in \
                      front";
        return Finding::warning(CHECK, found, remedy);
    }
    Finding::ok(CHECK, found)
}

async fn check_pooler(
    diagnosis: &mut Diagnosis,
    server: &PostgresServer,
    connection: &mut PgConnection,
    limit: Duration,
) {
    let asking = async {
        server.check_pooler(connection).await?;
        pooler::find(server, connection, limit).await
    };
    if let Some(pooler) = diagnosis.step("pooler", asking).await {
        diagnosis.add(Finding::ok("pooler", pooler.describe()));
    }
}

/// Returns whether the tables are there.
async fn check_tables(diagnosis: &mut Diagnosis, server: &PostgresServer, connection: &mut PgConnection) -> bool {
    let migrator = schema::postgres();
    let asking = async {
        let mut reading = connection.begin_with(server.opening().statement(READING)).await?;
        server.check_schema(&mut reading).await?;
        let ids = check(&mut reading, &server.database(), &migrator).await?;
        reading.commit().await?;
        Ok::<_, StoreError>(ids)
    };
    let Some(ids) = diagnosis.step("tables", asking).await else { return false };
    let newest = schema::newest(&migrator);
    diagnosis.add(Finding::ok("tables", format!("migrated to version {newest} or later; ids follow scheme {ids}")));
    true
}

async fn check_write(diagnosis: &mut Diagnosis, server: &PostgresServer, connection: &mut PgConnection) {
    let writing = async {
        let mut transaction = connection.begin_with(server.opening().statement(WRITING)).await?;
        let commits: String = sqlx::query_scalar(COMMITS).fetch_one(&mut *transaction).await?;
        let written = sqlx::query(BOOK).execute(&mut *transaction).await.map_err(StoreError::from);
        transaction.rollback().await?;
        Ok::<_, StoreError>((commits, written))
    };
    let Some((commits, written)) = diagnosis.step("write", writing).await else { return };
    diagnosis.add(match written {
        Ok(_) => Finding::ok("write", "an entry of `operations` was written, and rolled back"),
        // As the streamer, or a reader.
        Err(error) if error.class() == ErrorClass::Configuration => {
            Finding::not_checked("write", "the user may not write to `operations`, which only some programs do")
        }
        Err(error) => Finding::refused("write", &error),
    });
    diagnosis.add(judge_commits(&commits));
}

/// What a commit of the programs waits for.
fn judge_commits(synchronous_commit: &str) -> Finding {
    const CHECK: &str = "durability";
    if synchronous_commit == "off" {
        let found =
            "synchronous_commit is off even for the programs: a crash loses rows whose messages are acknowledged";
        return Finding::failed(CHECK, found, "turn it on for the user of DATABASE_URL");
    }
    Finding::ok(CHECK, format!("a commit waits until it is logged (synchronous_commit {synchronous_commit})"))
}

#[cfg(test)]
mod tests {
    use assay_connect::Verdict;

    use super::*;

    fn facts() -> Facts {
        Facts {
            version_number: 150_004,
            version: "15.4".to_owned(),
            is_standby: false,
            max_connections: 100,
            reserved: 3,
            used: 10,
            user_limit: -1,
            database_limit: -1,
            now_us: 0,
        }
    }

    #[test]
    fn a_server_is_judged_by_its_version_and_part() {
        let of = |facts: Facts| judge_version(&facts).verdict;
        assert_eq!(of(facts()), Verdict::Ok);
        assert_eq!(of(Facts { version_number: 130_000, ..facts() }), Verdict::Ok);
        assert_eq!(of(Facts { version_number: 120_017, ..facts() }), Verdict::Failed);
        assert_eq!(of(Facts { is_standby: true, ..facts() }), Verdict::Failed);
    }

    #[test]
    fn connections_are_judged_by_what_a_program_takes() {
        let cases = [
            (facts(), Verdict::Ok, "87 of 97 are free"),
            (Facts { used: 92, ..facts() }, Verdict::Ok, "5 of 97"),
            (Facts { used: 93, ..facts() }, Verdict::Warning, "4 of 97"),
            (Facts { used: 120, ..facts() }, Verdict::Warning, "0 of 97"),
            (Facts { user_limit: 12, ..facts() }, Verdict::Warning, "2 of 12"),
            (Facts { database_limit: 0, ..facts() }, Verdict::Warning, "0 of 0"),
        ];
        for (facts, verdict, words) in cases {
            let finding = judge_connections(&facts, 5);
            assert!(finding.verdict == verdict && finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn what_a_crash_may_lose_is_named() {
        assert_eq!(judge_hazards(&["fsync".to_owned()])[0].verdict, Verdict::Warning);
        for (setting, verdict) in [("on", Verdict::Ok), ("remote_apply", Verdict::Ok), ("off", Verdict::Failed)] {
            assert_eq!(judge_commits(setting).verdict, verdict, "{setting}");
        }
    }
}
