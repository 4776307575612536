# shellcheck shell=bash disable=SC2034
# Sourced by run.sh and test.sh: makes sure that the Debian 12 packages they need are there.

# What the build needs.
fairsale_build_packages=(
  g++ cmake ninja-build ccache
  librocksdb-dev libcereal-dev libspdlog-dev libfmt-dev libexpected-dev libboost-dev
  libsimdjson-dev prometheus-cpp-dev libcli11-dev libssl-dev libisal-dev libcurl4-openssl-dev libnats-dev
  liblz4-dev
  libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  curl ca-certificates
)
# What run.sh --cluster needs besides.
fairsale_cluster_packages=(nats-server haproxy openssl)
# What the tests need besides: clients of other making, tools that check, and a clock to set.
fairsale_test_packages=(
  clang-format-14 jq wrk hey python3 faketime nodejs chromium fonts-inter
  "${fairsale_cluster_packages[@]}"
)
# Node.js from elsewhere brings its own npm.
command -v npm >/dev/null || fairsale_test_packages+=(npm)

# Installs those of the named packages that are missing. Fast and silent when none is.
fairsale_install() {
  local missing=() package installed
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null) || true
  for package in "$@"; do
    [[ $'\n'"$installed"$'\n' == *$'\n'"$package installed"$'\n'* ]] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "fairsale needs these packages of Debian 12: ${missing[*]}" >&2
      echo "As root: apt-get install --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
    root=(sudo)
  fi
  echo "Installing ${missing[*]}" >&2
  local -x DEBIAN_FRONTEND=noninteractive
  local quiet=(-qq -o Dpkg::Use-Pty=0)
  if ! { "${root[@]}" apt-get update "${quiet[@]}" &&
         "${root[@]}" apt-get install "${quiet[@]}" --yes --no-install-recommends "${missing[@]}"; } \
         >&2; then
    echo "apt-get failed: fairsale builds on Debian 12 (bookworm) with its packages" >&2
    return 1
  fi
}
