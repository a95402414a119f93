# shellcheck shell=bash
# The Python of the baseline that Assay is measured against (benches/baseline). Sourced by scripts/bench, after services.sh.
#
#   baseline_up      makes a virtual environment with exactly what benches/baseline/requirements.txt lists, where there is none
#                    or another one, and exports BENCH_BASELINE_PYTHON, its python
#
# It is made with the Python that BENCH_PYTHON names, else python3, from 3.11 on; Debian's package of the venv module is
# installed where it is missing. Once made, nothing is fetched any more.

BASELINE_REQUIREMENTS=$PWD/benches/baseline/requirements.txt
BASELINE_DIR=${CARGO_TARGET_DIR:-$PWD/target}/baseline-python
VENV_PACKAGE=python3-venv

baseline_up() {
  local python stamp
  [ -n "$SERVICES_DIR" ] || services_begin
  python=$(baseline_python_find) || { fail "baseline: no Python from 3.11 on: install one, or name it in BENCH_PYTHON"; return; }
  stamp=$("$python" --version && cat "$BASELINE_REQUIREMENTS")
  if [ "$(cat "$BASELINE_DIR/made-of" 2>/dev/null)" != "$stamp" ] || ! "$BASELINE_DIR/bin/python" -c '' 2>/dev/null; then
    baseline_make "$python" || return
    printf '%s\n' "$stamp" >"$BASELINE_DIR/made-of" # last: half of an environment is made again
  fi
  export BENCH_BASELINE_PYTHON=$BASELINE_DIR/bin/python
}

baseline_make() {
  local python=$1
  say "baseline: installing its packages from the package index into $BASELINE_DIR"
  if ! has_venv "$python"; then
    # Debian's package is for Debian's Python alone.
    python=/usr/bin/python3
    has_venv "$python" || install_package 'venv for Python' '' "$VENV_PACKAGE" || return
  fi
  {
    "$python" -m venv --clear "$BASELINE_DIR" &&
      "$BASELINE_DIR/bin/python" -m pip install --disable-pip-version-check --quiet --only-binary :all: \
        --requirement "$BASELINE_REQUIREMENTS"
  } >"$SERVICES_DIR/baseline.log" 2>&1 || fail "baseline: its packages could not be installed with $python; the log is below"
}

# The first that is new enough.
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

# Debian has the module without what it needs to put pip into an environment.
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
