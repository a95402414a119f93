# shellcheck shell=bash
# Private PostgreSQL and RabbitMQ for tests, benchmarks and fault injection. Sourced by scripts/test,
# scripts/with-services, scripts/bench, scripts/faults and the scripts/*-check that need services.
#
#   services_up      provides both and exports TEST_DATABASE_URL and TEST_AMQP_URL; however the script ends, the private
#                    instances are stopped and their files removed
#   services_find    finds the binaries of both, installs missing ones, and exports TEST_POSTGRES_BIN and
#                    TEST_RABBITMQ_SERVER, for scripts that start their own instances
#   python_up        exports TEST_PYTHON, a Python 3 with pika, for tests with external producers
#   pgbouncer_up     exports TEST_PGBOUNCER, a pooler between a program and PostgreSQL
#   services_run     runs a command so that a signal to the script reaches all its processes
#
# Each service comes from the first of: its TEST_…_URL in the environment, installed binaries, a running container engine,
# the package manager. Private instances listen on loopback only, keep everything in one temporary directory,
# share nothing with installed services (data, ports, node name, cookie, epmd), and are stopped by process id.
#
# With SERVICES_DURABLE=1 PostgreSQL's commits survive a crash of the machine, as in production; benchmarks use it. The process
# ids of private instances are in TEST_POSTGRES_PID and TEST_RABBITMQ_PID, except in containers.

SERVICES_DIR=''            # all files of private instances
SERVICES_PIDS=()           # "signal pid name" of started processes, in order
SERVICES_CONTAINERS=()     # "engine name" of started containers
SERVICES_FAILED=''         # set after a failure: the ends of the logs are then shown
SERVICES_CHILD=''          # the process group of the command that services_run runs
SERVICES_POLICY=''         # how to put /usr/sbin/policy-rc.d back: `remove` or `restore`

POSTGRES_IMAGE=postgres:17
RABBITMQ_IMAGE=rabbitmq:4-management
POSTGRES_PACKAGE=postgresql
RABBITMQ_PACKAGE=rabbitmq-server
PIKA_PACKAGE=python3-pika
PGBOUNCER_PACKAGE=pgbouncer
START_SECONDS=60           # longest start of an instance
PYTHON_DIR=${CARGO_TARGET_DIR:-$PWD/target}/python   # pika's folder, if no package has it
PULL_SECONDS=300           # longest start of a container, including the download of its image

say() { printf '%s\n' "services: $*" >&2; }
services_failed() { SERVICES_FAILED=1; }
fail() { say "$*"; services_failed; return 1; }

# --- both services ----------------------------------------------------------------------------------------------

services_up() {
  services_begin
  service_up postgres PostgreSQL TEST_DATABASE_URL "$POSTGRES_PACKAGE" || return
  service_up rabbitmq RabbitMQ TEST_AMQP_URL "$RABBITMQ_PACKAGE"
}

# Without containers: their processes cannot be killed from outside.
services_find() {
  services_begin
  service_find postgres PostgreSQL "$POSTGRES_PACKAGE" || return
  service_find rabbitmq RabbitMQ "$RABBITMQ_PACKAGE"
}

services_begin() {
  pgbouncer_find || true
  trap services_down EXIT
  trap 'services_signal 130' INT
  trap 'services_signal 143' TERM HUP
  SERVICES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/assay-services.XXXXXX")
  chmod 711 "$SERVICES_DIR" # its subdirectories belong to the users that the services run as
}

service_find() {
  local service=$1 name=$2 package=$3
  "${service}_find" && return
  install_package "$name" '' "$package" || return
  "${service}_find" || fail "$name: installed, but its programs are not in the expected place"
}

# Uses the first available way to the service. A failure of that way is an error, except for containers, whose images may be
# unreachable.
service_up() {
  local service=$1 name=$2 variable=$3 package=$4 engine
  if [ -n "${!variable:-}" ]; then
    say "$name: using $variable, $(without_password "${!variable}")"
    return
  fi
  if "${service}_find"; then
    "${service}_start"
    return
  fi
  if engine=$(container_engine); then
    "${service}_start_container" "$engine" && return
    say "$name: cannot start a container with $engine; trying the package manager"
  fi
  install_package "$name" "$variable" "$package" || return
  "${service}_find" || { fail "$name: installed, but its programs are not in the expected place"; return; }
  "${service}_start"
}

services_down() {
  local entry
  restore_policy
  for entry in ${SERVICES_CONTAINERS[@]+"${SERVICES_CONTAINERS[@]}"}; do
    # shellcheck disable=SC2086 # two words: the engine and the name
    set -- $entry
    [ -z "$SERVICES_FAILED" ] || "$1" logs "$2" >"$SERVICES_DIR/$2.log" 2>&1 || true
    "$1" rm --force --volumes "$2" >/dev/null 2>&1 || say "could not remove container $2: run \`$1 rm -f $2\`"
  done
  SERVICES_CONTAINERS=()
  local at
  for ((at = ${#SERVICES_PIDS[@]} - 1; at >= 0; at--)); do
    # shellcheck disable=SC2086 # three words
    stop_process ${SERVICES_PIDS[at]}
  done
  SERVICES_PIDS=()
  [ -n "$SERVICES_DIR" ] || return 0
  [ -z "$SERVICES_FAILED" ] || show_logs
  rm -rf "$SERVICES_DIR"
  SERVICES_DIR=''
}

show_logs() {
  local log
  while IFS= read -r log; do
    [ -s "$log" ] || continue
    printf '\n--- the end of %s\n' "${log#"$SERVICES_DIR"/}" >&2
    tail -n 40 "$log" >&2
  done < <(find "$SERVICES_DIR" -name '*.log' 2>/dev/null)
}

# Runs a command to its end. Without a terminal, it gets its own process group, so that a TERM to this script ends all its
# processes at once, test binaries included; at a terminal, Ctrl-C reaches them anyway.
services_run() {
  if [ -t 0 ]; then
    "$@"
    return
  fi
  local status=0
  set -m
  "$@" <&0 &
  set +m
  SERVICES_CHILD=$!
  wait "$SERVICES_CHILD" || status=$?
  SERVICES_CHILD=''
  return "$status"
}

services_signal() {
  if [ -n "$SERVICES_CHILD" ]; then
    kill -s TERM -- "-$SERVICES_CHILD" 2>/dev/null || true
    wait "$SERVICES_CHILD" 2>/dev/null || true
  fi
  exit "$1"
}

without_password() { printf '%s' "$1" | sed -E 's#//[^@/]*@#//#'; }

# --- processes and ports ----------------------------------------------------------------------------------------

# Prints a free port below the ephemeral range: within that range, a reconnecting client could get the port of the server
# for which it waits.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s' "$port"
      return
    fi
  done
  fail 'no free port between 20000 and 32000 on 127.0.0.1'
}

# start_process SIGNAL NAME LOG COMMAND…: starts a process in its own process group, so that Ctrl-C does not stop services
# while a command handles it. SIGNAL stops the process.
start_process() {
  local signal=$1 name=$2 log=$3
  shift 3
  set -m
  "$@" </dev/null >>"$log" 2>&1 &
  set +m
  SERVICES_PIDS+=("$signal $! $name")
  LAST_PID=$!
}

stop_process() {
  local signal=$1 pid=$2 name=$3
  kill -0 "$pid" 2>/dev/null || return 0
  kill -s "$signal" "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || { wait "$pid" 2>/dev/null || true; return 0; }
    sleep 0.1
  done
  say "$name ($pid) did not stop in 10 s; killing it"
  kill -s KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# wait_until SECONDS NAME PID COMMAND…: waits until COMMAND succeeds or process PID ends; PID may be empty.
wait_until() {
  local end=$((SECONDS + $1)) seconds=$1 name=$2 pid=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
      fail "$name ended during its start; its log is below"
      return
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      fail "$name is not ready after $seconds s; its log is below"
      return
    fi
    sleep 0.1
  done
}

# unprivileged USER…: sets AS, the prefix of a command, and AS_USER; both are empty unless we are root. PostgreSQL refuses
# to run as root, and RabbitMQ need not. Uses the first USER that exists, else `nobody`.
unprivileged() {
  AS=() AS_USER=''
  [ "$(id -u)" = 0 ] || return 0
  command -v setpriv >/dev/null || { fail 'setpriv is missing: install util-linux, or do not run this as root'; return; }
  local user
  for user in "$@" nobody; do
    id "$user" >/dev/null 2>&1 || continue
    AS_USER=$user
    AS=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups --)
    return
  done
  fail 'PostgreSQL and RabbitMQ cannot run as root, and there is no other user: create one, or do not run this as root'
}

# Creates a directory that only the service's user may enter.
private_dir() {
  mkdir -p "$1"
  chmod 700 "$1"
  [ -z "$AS_USER" ] || chown "$AS_USER" "$1"
}

# --- PostgreSQL -------------------------------------------------------------------------------------------------

# Sets TEST_POSTGRES_BIN to the directory of initdb and postgres with the highest version.
postgres_find() {
  local directory
  while IFS= read -r directory; do
    if [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then
      export TEST_POSTGRES_BIN=$directory
      return
    fi
  done < <(
    dirname "$(readlink -f "$(command -v initdb)" || printf /nowhere/initdb)"
    find /usr/lib/postgresql /usr/pgsql-* /opt/homebrew/opt/postgresql* /usr/local/opt/postgresql* \
      -maxdepth 2 -name bin 2>/dev/null | sort -rV
  )
  return 1
}

# Sets POSTGRES_SETTINGS. Tests run without fsync, as the instance ends with them: killing its processes loses no commit; only a
# crash of the machine would.
postgres_settings() {
  POSTGRES_SETTINGS=(-c max_connections=200)
  [ -n "${SERVICES_DURABLE:-}" ] || POSTGRES_SETTINGS+=(-c fsync=off -c full_page_writes=off)
}

postgres_start() {
  local port data began=$SECONDS bin=$TEST_POSTGRES_BIN password
  unprivileged postgres || return
  port=$(free_port) || return
  password=$(random_word)
  data=$SERVICES_DIR/postgres
  private_dir "$data" || return
  printf '%s\n' "$password" >"$data/password"
  [ -z "$AS_USER" ] || chown "$AS_USER" "$data/password"
  say "PostgreSQL: starting $("$bin/postgres" --version | cut -d' ' -f3) from $bin on 127.0.0.1:$port"
  (cd "$data" && ${AS[@]+"${AS[@]}"} "$bin/initdb" --pgdata="$data/data" --username=assay --pwfile="$data/password" \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$data/initdb.log" 2>&1) ||
    { fail 'PostgreSQL: initdb failed; its log is below'; return; }
  postgres_settings
  start_process INT PostgreSQL "$data/postgres.log" ${AS[@]+"${AS[@]}"} "$bin/postgres" -D "$data/data" -p "$port" \
    -k "$data" -c listen_addresses=127.0.0.1 "${POSTGRES_SETTINGS[@]}"
  # The eighth line of the pid file is the state; a client may not be installed.
  wait_until "$START_SECONDS" PostgreSQL "$LAST_PID" grep -q '^ready' "$data/data/postmaster.pid" || return
  export TEST_POSTGRES_PID=$LAST_PID
  export TEST_DATABASE_URL="postgres://assay:$password@127.0.0.1:$port/postgres"
  say "PostgreSQL: ready after $((SECONDS - began)) s"
}

postgres_start_container() {
  local engine=$1 port began=$SECONDS name=assay-postgres-$$ password
  port=$(free_port) || return
  password=$(random_word)
  postgres_settings
  say "PostgreSQL: starting $POSTGRES_IMAGE with $engine on 127.0.0.1:$port"
  start_container "$engine" "$name" -p "127.0.0.1:$port:5432" -e POSTGRES_USER=assay -e "POSTGRES_PASSWORD=$password" \
    -e POSTGRES_DB=postgres "$POSTGRES_IMAGE" "${POSTGRES_SETTINGS[@]}" || return
  # Over TCP: during the image's initialisation, its server listens on the socket only.
  wait_until "$START_SECONDS" PostgreSQL '' "$engine" exec "$name" pg_isready -q -h 127.0.0.1 -U assay -d postgres || return
  export TEST_DATABASE_URL="postgres://assay:$password@127.0.0.1:$port/postgres"
  say "PostgreSQL: ready after $((SECONDS - began)) s"
}

# --- RabbitMQ ---------------------------------------------------------------------------------------------------

# Sets TEST_RABBITMQ_SERVER to the server's own script. On Debian and Fedora the one in /usr/sbin is a wrapper, which
# changes user and directory and drops the environment.
rabbitmq_find() {
  local candidate
  for candidate in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server)" \
    /usr/sbin/rabbitmq-server /opt/homebrew/sbin/rabbitmq-server /usr/local/sbin/rabbitmq-server; do
    [ -x "$candidate" ] || continue
    case $(readlink -f "$candidate") in *script-wrapper) continue ;; esac
    if ! command -v erl >/dev/null || ! command -v epmd >/dev/null; then
      say "RabbitMQ: skipping $candidate, as erl or epmd is not in PATH"
      return 1
    fi
    export TEST_RABBITMQ_SERVER=$candidate
    return
  done
  return 1
}

rabbitmq_start() {
  local port epmd_port dist_port home began=$SECONDS password
  unprivileged rabbitmq || return
  port=$(free_port) && epmd_port=$(free_port) && dist_port=$(free_port) || return
  password=$(random_word)
  home=$SERVICES_DIR/rabbitmq
  private_dir "$home" || return
  cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
default_user = assay
default_pass = $password
loopback_users = none
disk_free_limit.absolute = 64MB
log.console = true
log.console.level = info
log.file = false
CONF
  printf '[].\n' >"$home/enabled_plugins"
  : >"$home/rabbitmq-env.conf"
  random_word >"$home/.erlang.cookie"
  chmod 400 "$home/.erlang.cookie"
  [ -z "$AS_USER" ] || chown "$AS_USER" "$home"/* "$home/.erlang.cookie"
  say "RabbitMQ: starting $TEST_RABBITMQ_SERVER on 127.0.0.1:$port"
  # A private epmd in the foreground, which can be stopped; otherwise the node would leave a daemon behind.
  start_process TERM epmd "$home/epmd.log" ${AS[@]+"${AS[@]}"} env HOME="$home" epmd -port "$epmd_port" -address 127.0.0.1
  wait_until "$START_SECONDS" epmd "$LAST_PID" epmd -port "$epmd_port" -names || return
  # RABBITMQ_ALLOW_INPUT makes the script become the node instead of supervising it: one process, stopped by its id;
  # -noinput removes the shell that comes with it.
  start_process TERM RabbitMQ "$home/rabbitmq.log" ${AS[@]+"${AS[@]}"} env \
    HOME="$home" \
    ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_NODENAME="assay-test-$$@localhost" RABBITMQ_USE_LONGNAME=false \
    RABBITMQ_DIST_PORT="$dist_port" \
    RABBITMQ_ALLOW_INPUT=1 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput -kernel inet_dist_use_interface {127,0,0,1}' \
    RABBITMQ_CONF_ENV_FILE="$home/rabbitmq-env.conf" \
    RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$home/advanced.config" \
    RABBITMQ_CONFIG_FILES="$home/conf.d" \
    RABBITMQ_GENERATED_CONFIG_DIR="$home/config" RABBITMQ_SCHEMA_DIR="$home/schema" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_PLUGINS_EXPAND_DIR="$home/plugins" \
    RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid" \
    "$TEST_RABBITMQ_SERVER"
  wait_until "$START_SECONDS" RabbitMQ "$LAST_PID" speaks_amqp "$port" || return
  export TEST_RABBITMQ_PID=$LAST_PID
  export TEST_AMQP_URL="amqp://assay:$password@127.0.0.1:$port"
  say "RabbitMQ: ready after $((SECONDS - began)) s"
}

rabbitmq_start_container() {
  local engine=$1 port began=$SECONDS name=assay-rabbitmq-$$ password
  port=$(free_port) || return
  password=$(random_word)
  say "RabbitMQ: starting $RABBITMQ_IMAGE with $engine on 127.0.0.1:$port"
  start_container "$engine" "$name" -p "127.0.0.1:$port:5672" -e RABBITMQ_DEFAULT_USER=assay \
    -e "RABBITMQ_DEFAULT_PASS=$password" "$RABBITMQ_IMAGE" || return
  wait_until "$START_SECONDS" RabbitMQ '' speaks_amqp "$port" || return
  export TEST_AMQP_URL="amqp://assay:$password@127.0.0.1:$port"
  say "RabbitMQ: ready after $((SECONDS - began)) s"
}

# Whether a broker answers a protocol header with a method frame, as it does once its listener is open. The broker's own
# command line tools take some seconds each time.
speaks_amqp() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
  printf 'AMQP\0\0\011\001' >&3
  IFS= read -r -t 2 -n 1 -u 3 frame && [ "$frame" = $'\001' ]
)

random_word() { LC_ALL=C tr -dc 'a-z0-9' </dev/urandom 2>/dev/null | head -c 24 || true; }

# --- Python and pika ---------------------------------------------------------------------------------------------

# Uses the first of: TEST_PYTHON, a Python with pika, Debian's package, the package index (into target/).
python_up() {
  [ -z "${TEST_PYTHON:-}" ] || return 0
  python_find && return
  if [ -x /usr/bin/python3 ] && command -v apt-get >/dev/null && may_install; then
    install_package pika '' "$PIKA_PACKAGE" && python_find && return
    SERVICES_FAILED=''
  fi
  say "pika: installing it from the package index into $PYTHON_DIR"
  python3 -m venv "$PYTHON_DIR" >"$SERVICES_DIR/python.log" 2>&1 &&
    "$PYTHON_DIR/bin/pip" install --quiet pika >>"$SERVICES_DIR/python.log" 2>&1 && python_find && return
  fail "pika: no Python 3 has it: install $PIKA_PACKAGE, or set TEST_PYTHON to a Python with pika"
}

# `python3` may not be the system's Python, which gets Debian's packages.
python_find() {
  local candidate
  for candidate in /usr/bin/python3 "$(command -v python3)" "$PYTHON_DIR/bin/python3"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import pika' 2>/dev/null; then
      export TEST_PYTHON=$candidate
      return
    fi
  done
  return 1
}

# --- PgBouncer ---------------------------------------------------------------------------------------------------

# A missing PgBouncer is no failure: the tests that need it report that they are skipped.
pgbouncer_up() {
  [ -z "${TEST_PGBOUNCER:-}" ] || return 0
  pgbouncer_find && return
  if command -v apt-get >/dev/null && may_install; then
    install_package PgBouncer '' "$PGBOUNCER_PACKAGE" && pgbouncer_find && return
    SERVICES_FAILED=''
  fi
  say "PgBouncer: not installed, so poolers are not tested; install $PGBOUNCER_PACKAGE, or set TEST_PGBOUNCER to its program"
}

pgbouncer_find() {
  [ -z "${TEST_PGBOUNCER:-}" ] || return 0
  local candidate
  for candidate in "$(command -v pgbouncer)" /usr/sbin/pgbouncer; do
    [ -x "$candidate" ] || continue
    export TEST_PGBOUNCER=$candidate
    return
  done
  return 1
}

# --- containers -------------------------------------------------------------------------------------------------

# Prints the first running container engine.
container_engine() {
  local engine
  for engine in docker podman; do
    command -v "$engine" >/dev/null || continue
    timeout 10 "$engine" info >/dev/null 2>&1 || continue
    printf '%s' "$engine"
    return
  done
  return 1
}

# start_container ENGINE NAME ARGUMENT…
start_container() {
  local engine=$1 name=$2
  shift 2
  timeout "$PULL_SECONDS" "$engine" run --detach --name "$name" "$@" >"$SERVICES_DIR/$name.start" 2>&1 || {
    tail -n 3 "$SERVICES_DIR/$name.start" >&2
    "$engine" rm --force "$name" >/dev/null 2>&1 || true
    return 1
  }
  SERVICES_CONTAINERS+=("$engine $name")
}

# --- packages ---------------------------------------------------------------------------------------------------

# install_package NAME VARIABLE PACKAGE: announces and installs a package if permitted; otherwise prints what to do, and
# returns 2. VARIABLE is empty if only an installed program will do.
install_package() {
  local name=$1 variable=$2 package=$3 began=$SECONDS missing='not installed' remedy=''
  if [ -n "$variable" ]; then
    missing="neither installed, nor in a running container engine, nor in \$$variable"
    remedy=", or set $variable,"
  fi
  if ! command -v apt-get >/dev/null; then
    say "$name is $missing, and apt-get is missing."
    say "Install it with this system's package manager$remedy and run this again."
    return 2
  fi
  if ! may_install; then
    say "$name is $missing. Install it with:"
    say "    sudo apt-get install --no-install-recommends $package"
    return 2
  fi
  say "$name: installing Debian package $package (apt-get install --no-install-recommends), without starting its service"
  {
    as_root apt-get update -q &&
      as_root apt-get install --simulate --no-install-recommends "$package"
  } >"$SERVICES_DIR/apt.log" 2>&1 || { fail "$name: apt-get cannot install $package; its log is below"; return; }
  say "$name: this installs $(sed -n 's/^Inst \([^ ]*\).*/\1/p' "$SERVICES_DIR/apt.log" | tr '\n' ' ')"
  forbid_services || return
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$package" >>"$SERVICES_DIR/apt.log" 2>&1 ||
    { fail "$name: apt-get failed to install $package; its log is below"; return; }
  restore_policy
  keep_disabled "$package"
  hash -r
  say "$name: installed in $((SECONDS - began)) s"
}

# Whether debootstrap is there; installs it if that can be.
have_debootstrap() {
  command -v debootstrap >/dev/null && return
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || return
  say 'installing Debian package debootstrap'
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap; } >/dev/null
}

may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Debian's maintainer scripts ask policy-rc.d whether they may start a service; 101 forbids it.
POLICY_FILE=/usr/sbin/policy-rc.d
forbid_services() {
  if [ -e "$POLICY_FILE" ]; then
    as_root mv "$POLICY_FILE" "$POLICY_FILE.before-assay" || return
    SERVICES_POLICY=restore
  else
    SERVICES_POLICY=remove
  fi
  printf '#!/bin/sh\nexit 101\n' >"$SERVICES_DIR/policy-rc.d"
  as_root install -m 755 "$SERVICES_DIR/policy-rc.d" "$POLICY_FILE"
}

restore_policy() {
  case $SERVICES_POLICY in
    remove) as_root rm -f "$POLICY_FILE" ;;
    restore) as_root mv -f "$POLICY_FILE.before-assay" "$POLICY_FILE" ;;
  esac
  SERVICES_POLICY=''
}

# An installed package must not start its service at the next boot either.
keep_disabled() {
  command -v systemctl >/dev/null || return 0
  case $1 in
    "$POSTGRES_PACKAGE") as_root systemctl disable -q postgresql.service >/dev/null 2>&1 || true ;;
    "$RABBITMQ_PACKAGE") as_root systemctl disable -q rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || true ;;
  esac
}
