# shellcheck shell=bash
# Private PostgreSQL and RabbitMQ for tests, benches and fault drills. Sourced by scripts/test,
# scripts/with-services, scripts/bench and scripts/faults.
#
#   services_up      makes both available and exports TEST_DATABASE_URL and TEST_AMQP_URL; what it starts is stopped, and its
#                    files are removed, when the script ends, however it ends
#   services_find    only finds the installed binaries of both, installing them where they are missing, and exports
#                    TEST_POSTGRES_BIN and TEST_RABBITMQ_SERVER: for those who start their own instances
#   python_up        exports TEST_PYTHON, a Python 3 with pika: what other people's producers are written in
#   pgbouncer_up     exports TEST_PGBOUNCER: a pooler that tests put between a program and PostgreSQL
#   services_run     runs a command so that a signal to the script reaches all of it
#
# Each service comes from the first of: its TEST_…_URL in the environment, installed binaries, a container engine that
# answers, the package manager. Private instances listen on loopback alone, keep everything in one temporary directory,
# share nothing with installed services (data, ports, node name, cookie, epmd), and are stopped by process id.
#
# With SERVICES_DURABLE=1 PostgreSQL keeps what it has committed through a crash of the machine, as in production: for
# whoever measures. The process ids of private instances are in TEST_POSTGRES_PID and TEST_RABBITMQ_PID, except in containers.

SERVICES_DIR=''            # everything that private instances write
SERVICES_PIDS=()           # "signal pid name" of what was started, in order
SERVICES_CONTAINERS=()     # "engine name" of what was started
SERVICES_FAILED=''         # set where something failed: the ends of the logs are shown then
SERVICES_CHILD=''          # the process group of the command that services_run runs
SERVICES_POLICY=''         # how to put /usr/sbin/policy-rc.d back: `remove` or `restore`

POSTGRES_IMAGE=postgres:17
RABBITMQ_IMAGE=rabbitmq:4-management
POSTGRES_PACKAGE=postgresql
RABBITMQ_PACKAGE=rabbitmq-server
PIKA_PACKAGE=python3-pika
PGBOUNCER_PACKAGE=pgbouncer
START_SECONDS=60           # how long an instance may take until it answers
PYTHON_DIR=${CARGO_TARGET_DIR:-$PWD/target}/python   # where pika goes that no package brings
PULL_SECONDS=300           # and a container, whose image may have to be fetched first

say() { printf '%s\n' "services: $*" >&2; }
services_failed() { SERVICES_FAILED=1; }
fail() { say "$*"; services_failed; return 1; }

# --- both services ----------------------------------------------------------------------------------------------

services_up() {
  services_begin
  service_up postgres PostgreSQL TEST_DATABASE_URL "$POSTGRES_PACKAGE" || return
  service_up rabbitmq RabbitMQ TEST_AMQP_URL "$RABBITMQ_PACKAGE"
}

# No containers: their processes cannot be killed from out here.
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
  "${service}_find" || fail "$name: installed, but its programs are not where they are expected"
}

# Takes the first way that leads to the service; a way that is there and fails is an error, except for containers, whose
# images may be out of reach.
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
    say "$name: no container from $engine; trying the package manager"
  fi
  install_package "$name" "$variable" "$package" || return
  "${service}_find" || { fail "$name: installed, but its programs are not where they are expected"; return; }
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

# Runs a command to its end. Where nobody sits at a terminal, it gets a process group of its own, so that a TERM to this
# script ends all of it at once, test binaries included; at a terminal, Ctrl-C reaches all of it anyway.
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

# A free port below the ephemeral range: there, a reconnecting client could be given the very port of the server that it
# waits for.
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

# start_process SIGNAL NAME LOG COMMAND…: in a process group of its own, so that Ctrl-C does not take the services from
# under a command that handles it. SIGNAL asks the process to stop.
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

# wait_until SECONDS NAME PID COMMAND…: PID may be empty, where there is no process to watch.
wait_until() {
  local end=$((SECONDS + $1)) seconds=$1 name=$2 pid=$3
  shift 3
  until "$@" >/dev/null 2>&1; do
    if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
      fail "$name ended while it started; its log is below"
      return
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      fail "$name does not answer after $seconds s; its log is below"
      return
    fi
    sleep 0.1
  done
}

# unprivileged USER…: sets AS, the words to put before a command, and AS_USER. Empty unless we are root: PostgreSQL
# refuses to run as root, and RabbitMQ need not. The first USER that exists is taken, else `nobody`.
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

# A directory that the service's user owns, others may not enter.
private_dir() {
  mkdir -p "$1"
  chmod 700 "$1"
  [ -z "$AS_USER" ] || chown "$AS_USER" "$1"
}

# --- PostgreSQL -------------------------------------------------------------------------------------------------

# Sets TEST_POSTGRES_BIN to a directory with initdb and postgres: the highest version there is.
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

# Sets POSTGRES_SETTINGS. No fsync for tests, as the instance lives as long as they do: its processes may still be killed
# without losing a commit; only the machine may not.
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
  # The eighth line of its pid file is its state: no need for a client, which may not be installed.
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
  # Over TCP: while the image initialises itself, its server answers on the socket alone.
  wait_until "$START_SECONDS" PostgreSQL '' "$engine" exec "$name" pg_isready -q -h 127.0.0.1 -U assay -d postgres || return
  export TEST_DATABASE_URL="postgres://assay:$password@127.0.0.1:$port/postgres"
  say "PostgreSQL: ready after $((SECONDS - began)) s"
}

# --- RabbitMQ ---------------------------------------------------------------------------------------------------

# Sets TEST_RABBITMQ_SERVER to the server's own script. The one in /usr/sbin is a wrapper on Debian and Fedora, which
# changes user and directory and forgets the environment.
rabbitmq_find() {
  local candidate
  for candidate in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server)" \
    /usr/sbin/rabbitmq-server /opt/homebrew/sbin/rabbitmq-server /usr/local/sbin/rabbitmq-server; do
    [ -x "$candidate" ] || continue
    case $(readlink -f "$candidate") in *script-wrapper) continue ;; esac
    if ! command -v erl >/dev/null || ! command -v epmd >/dev/null; then
      say "RabbitMQ: found $candidate, but no erl and epmd in PATH; passing it over"
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
  # An epmd of our own, in the foreground and thus stoppable; else the node would leave a daemon behind.
  start_process TERM epmd "$home/epmd.log" ${AS[@]+"${AS[@]}"} env HOME="$home" epmd -port "$epmd_port" -address 127.0.0.1
  wait_until "$START_SECONDS" epmd "$LAST_PID" epmd -port "$epmd_port" -names || return
  # RABBITMQ_ALLOW_INPUT makes the script become the node, instead of watching over it: one process, stopped by its id;
  # -noinput takes back the shell which comes with it.
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

# Whether a broker answers our protocol header with a method frame, as it does when its listener is open. The broker's own
# command line tools would tell the same, some seconds later each time.
speaks_amqp() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
  printf 'AMQP\0\0\011\001' >&3
  IFS= read -r -t 2 -n 1 -u 3 frame && [ "$frame" = $'\001' ]
)

random_word() { LC_ALL=C tr -dc 'a-z0-9' </dev/urandom 2>/dev/null | head -c 24 || true; }

# --- Python and pika ---------------------------------------------------------------------------------------------

# From the first of: TEST_PYTHON, a Python that has pika, Debian's package, the package index (into target/).
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
  fail "pika: not installed for any Python 3: install $PIKA_PACKAGE, or set TEST_PYTHON to a Python that has it"
}

# `python3` may be another than the system's, which is the one that gets Debian's packages.
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

# Nothing fails where there is none: what takes it says so.
pgbouncer_up() {
  [ -z "${TEST_PGBOUNCER:-}" ] || return 0
  pgbouncer_find && return
  if command -v apt-get >/dev/null && may_install; then
    install_package PgBouncer '' "$PGBOUNCER_PACKAGE" && pgbouncer_find && return
    SERVICES_FAILED=''
  fi
  say "PgBouncer: not installed: poolers are not tested; install $PGBOUNCER_PACKAGE, or set TEST_PGBOUNCER to its program"
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

# Prints the container engine that answers.
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

# install_package NAME VARIABLE PACKAGE: says what it is going to install, and installs it where it may; else says what to
# do, and returns 2. VARIABLE is empty where only an installed one will do.
install_package() {
  local name=$1 variable=$2 package=$3 began=$SECONDS missing='not installed' remedy=''
  if [ -n "$variable" ]; then
    missing="neither installed, nor in a container engine that answers, nor in \$$variable"
    remedy=", or set $variable,"
  fi
  if ! command -v apt-get >/dev/null; then
    say "$name is $missing, and there is no apt-get."
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
  say "$name: this brings $(sed -n 's/^Inst \([^ ]*\).*/\1/p' "$SERVICES_DIR/apt.log" | tr '\n' ' ')"
  forbid_services || return
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$package" >>"$SERVICES_DIR/apt.log" 2>&1 ||
    { fail "$name: apt-get could not install $package; its log is below"; return; }
  restore_policy
  keep_disabled "$package"
  hash -r
  say "$name: installed in $((SECONDS - began)) s"
}

may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Debian's maintainer scripts ask policy-rc.d whether they may start a service; 101 says no.
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

# The package we brought must not start its service at the next boot either.
keep_disabled() {
  command -v systemctl >/dev/null || return 0
  case $1 in
    "$POSTGRES_PACKAGE") as_root systemctl disable -q postgresql.service >/dev/null 2>&1 || true ;;
    "$RABBITMQ_PACKAGE") as_root systemctl disable -q rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || true ;;
  esac
}
