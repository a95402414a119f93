# shellcheck shell=bash
# The Python of the baseline (benches/baseline) and of the peers (benches/peers). Sourced by scripts/bench, after services.sh.
#
#   baseline_up      creates a virtual environment with the packages of benches/baseline/requirements.txt, unless an up-to-date
#                    one exists, and exports its python as BENCH_BASELINE_PYTHON
#   peers_up         the same with those of benches/peers/requirements.txt, as BENCH_PEERS_PYTHON
#
# They use the Python of BENCH_PYTHON, else python3, 3.11 or later, and install Debian's package of the venv module if it is
# missing. Later runs fetch nothing.

VENV_PACKAGE=python3-venv

baseline_up() {
  venv_up baseline || return
  export BENCH_BASELINE_PYTHON=$VENV_PYTHON
}

peers_up() {
  venv_up peers || return
  export BENCH_PEERS_PYTHON=$VENV_PYTHON
}

# venv_up NAME: provides the packages of benches/NAME/requirements.txt; sets VENV_PYTHON.
venv_up() {
  local name=$1 python stamp
  local requirements=$PWD/benches/$name/requirements.txt directory=${CARGO_TARGET_DIR:-$PWD/target}/$name-python
  [ -n "$SERVICES_DIR" ] || services_begin
  python=$(venv_python_find) || { fail "$name: no Python 3.11 or later: install one, or set BENCH_PYTHON to it"; return; }
  stamp=$("$python" --version && cat "$requirements")
  if [ "$(cat "$directory/made-of" 2>/dev/null)" != "$stamp" ] || ! "$directory/bin/python" -c '' 2>/dev/null; then
    venv_make "$name" "$python" "$directory" "$requirements" || return
    printf '%s\n' "$stamp" >"$directory/made-of" # last, so that an incomplete environment is created again
  fi
  VENV_PYTHON=$directory/bin/python
}

venv_make() {
  local name=$1 python=$2 directory=$3 requirements=$4
  say "$name: installing packages from the package index into $directory"
  if ! has_venv "$python"; then
    # Debian's package works with Debian's Python only.
    python=/usr/bin/python3
    has_venv "$python" || install_package 'venv for Python' '' "$VENV_PACKAGE" || return
  fi
  {
    "$python" -m venv --clear "$directory" &&
      "$directory/bin/python" -m pip install --disable-pip-version-check --quiet --only-binary :all: --requirement "$requirements"
  } >"$SERVICES_DIR/$name.log" 2>&1 || fail "$name: cannot install the packages with $python; the log is below"
}

# Prints the first Python that is new enough.
venv_python_find() {
  local candidate
  set -- python3 /usr/bin/python3
  [ -z "${BENCH_PYTHON:-}" ] || set -- "$BENCH_PYTHON"
  for candidate in "$@"; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    printf '%s' "$candidate"
    return
  done
  return 1
}

# Debian ships the module without ensurepip, which puts pip into an environment.
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
