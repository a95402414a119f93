# shellcheck shell=bash
# The Python of the baseline (benches/baseline). Sourced by scripts/bench, after services.sh.
#
#   baseline_up      creates a virtual environment with the packages of benches/baseline/requirements.txt, unless an up-to-date
#                    one exists, and exports its python as BENCH_BASELINE_PYTHON
#
# It uses the Python of BENCH_PYTHON, else python3, 3.11 or later, and installs Debian's package of the venv module if it is
# missing. Later runs fetch nothing.

BASELINE_REQUIREMENTS=$PWD/benches/baseline/requirements.txt
BASELINE_DIR=${CARGO_TARGET_DIR:-$PWD/target}/baseline-python
VENV_PACKAGE=python3-venv

baseline_up() {
  local python stamp
  [ -n "$SERVICES_DIR" ] || services_begin
  python=$(baseline_python_find) || { fail "baseline: no Python 3.11 or later: install one, or set BENCH_PYTHON to it"; return; }
  stamp=$("$python" --version && cat "$BASELINE_REQUIREMENTS")
  if [ "$(cat "$BASELINE_DIR/made-of" 2>/dev/null)" != "$stamp" ] || ! "$BASELINE_DIR/bin/python" -c '' 2>/dev/null; then
    baseline_make "$python" || return
    printf '%s\n' "$stamp" >"$BASELINE_DIR/made-of" # last, so that an incomplete environment is created again
  fi
  export BENCH_BASELINE_PYTHON=$BASELINE_DIR/bin/python
}

baseline_make() {
  local python=$1
  say "baseline: installing packages from the package index into $BASELINE_DIR"
  if ! has_venv "$python"; then
    # Debian's package works with Debian's Python only.
    python=/usr/bin/python3
    has_venv "$python" || install_package 'venv for Python' '' "$VENV_PACKAGE" || return
  fi
  {
    "$python" -m venv --clear "$BASELINE_DIR" &&
      "$BASELINE_DIR/bin/python" -m pip install --disable-pip-version-check --quiet --only-binary :all: \
        --requirement "$BASELINE_REQUIREMENTS"
  } >"$SERVICES_DIR/baseline.log" 2>&1 || fail "baseline: cannot install the packages with $python; the log is below"
}

# Prints the first Python that is new enough.
baseline_python_find() {
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
