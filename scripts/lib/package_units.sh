# shellcheck shell=bash
# A fleet by the systemd units of an installed package, without systemd: their ExecStart and environment as they stand, in the chroot
# directory `root`, as a user without rights. Sourced by scripts/package-check, which has started private services.

PREDICTORS=(9471 9472)   # instances of assay-predictor@.service: the ports of their metrics
START_SECONDS_OF_UNIT=60
LOAD_SECONDS=120
STOP_SECONDS=40          # TimeoutStopSec of the units

# set_in FILE NAME VALUE: changes a setting as an operator does, who removes the `#` before it.
set_in() {
  local file=$root/etc/assay/$1.env
  grep -q "^#$2=" "$file" || broken "$file does not offer $2"
  sed -i "s|^#$2=.*|$2=$3|" "$file"
}

# unit_environment UNIT INSTANCE: prints the environment of a unit, a setting a line; the last of a name is in force.
unit_environment() {
  local unit=$root/usr/lib/systemd/system/$1 file
  sed -n 's/^Environment=//p' "$unit" | sed "s/%i/$2/g"
  while IFS= read -r file; do
    sed -n '/^[A-Z][A-Z0-9_]*=/p' "$root$file"
  done < <(sed -n 's/^EnvironmentFile=//p' "$unit")
}

# in_unit UNIT INSTANCE COMMAND…: runs a command as the unit runs its own.
in_unit() {
  local environment=()
  mapfile -t environment < <(unit_environment "$1" "$2")
  shift 2
  exec chroot "$root" setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    env -i "${environment[@]}" "$@"
}

exec_start() { sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/$1"; }

# start_unit UNIT [INSTANCE]: starts it, and waits for /health/ready at its METRICS_ADDR.
start_unit() {
  local unit=$1 instance=${2:-} command=()
  read -ra command < <(exec_start "$unit")
  start_process TERM "$unit" "$SERVICES_DIR/$unit$instance.log" in_unit "$unit" "$instance" "${command[@]}"
  STARTED+=("$LAST_PID $unit$instance")
  wait_until "$START_SECONDS_OF_UNIT" "$unit" "$LAST_PID" ready "$unit" "$instance"
}

ready() (in_unit "$1" "$2" /usr/bin/assay health)

is_loaded() (in_unit assay-loader.service '' /usr/bin/assay runs --json | grep -q '"state": "complete"')

# Ends every unit as systemd does, and expects exit code 0.
stop_units() {
  local entry pid name code
  for entry in "${STARTED[@]}"; do
    kill -s TERM "${entry%% *}"
  done
  for entry in "${STARTED[@]}"; do
    pid=${entry%% *} name=${entry#* } code=0
    wait_until "$STOP_SECONDS" "$name" '' not_running "$pid"
    wait "$pid" || code=$?
    [ "$code" = 0 ] || broken "$name exits $code when it is stopped"
  done
}

not_running() { ! kill -0 "$1"; }

# Migrations, an S3 server and an ML API, then every stage by its unit: the object of the bucket is loaded, and its audit holds.
run_units() {
  local s3=$SERVICES_DIR/s3.log ml_api stage setting name command=()
  STARTED=()
  cargo build --quiet --locked --profile "${PROFILE:-release}" -p assay-testkit --example s3
  start_process INT s3 "$s3" "${CARGO_TARGET_DIR:-target}/${PROFILE:-release}/examples/s3" transactions examples/transactions.csv
  wait_until "$START_SECONDS_OF_UNIT" s3 "$LAST_PID" grep -q SECRET "$s3"
  ml_api=$(free_port)
  start_process TERM ml-api "$SERVICES_DIR/ml-api.log" env ML_API_PORT="$ml_api" chroot --userspec=65534:65534 "$root" /usr/bin/ml-api
  for stage in migrate loader writer streamer; do
    set_in "$stage" DATABASE_URL "$TEST_DATABASE_URL"
  done
  for stage in loader predictor writer streamer; do
    set_in "$stage" AMQP_URL "$TEST_AMQP_URL"
  done
  for setting in ENDPOINT_URL KEY SECRET; do
    set_in loader "$setting" "$(sed -n "s/^$setting=//p" "$s3")"
  done
  set_in loader WATCH_URL s3://transactions
  set_in predictor ML_API_URL "http://127.0.0.1:$ml_api"
  set_in streamer STREAMER_ADDR "127.0.0.1:$(free_port)"

  read -ra command < <(exec_start assay-migrate.service)
  quietly migrate eval '(in_unit assay-migrate.service "" "${command[@]}")'
  start_unit assay-writer.service
  for name in "${PREDICTORS[@]}"; do
    start_unit assay-predictor@.service "$name"
  done
  start_unit assay-streamer.service
  start_unit assay-loader.service
  wait_until "$LOAD_SECONDS" 'the load' '' is_loaded
  quietly audit eval '(in_unit assay-loader.service "" /usr/bin/assay audit latest)'
  stop_units
  report "package: ${#STARTED[@]} units run as they stand: an object was loaded, its audit holds, and all stop with exit code 0"
}
