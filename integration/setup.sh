#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs, by apt, what building and testing Quoin needs and this machine
# lacks. It says each package and why; it installs nothing that is there, asks
# nothing, and lets no package start a service.
#
#   integration/setup.sh          to build, and for the integration tests
#   integration/setup.sh build    only what makes bin/runc able to filter system calls
#   integration/setup.sh vm       what the tests in a virtual machine need, and only they
#   integration/setup.sh list     print the list, install nothing
#
# Exit status: 0 when everything is there, 1 when something could not be had.
set -euo pipefail

# One line a package: group, name, what for.
packages() {
	cat <<'LIST'
build  libseccomp-dev               headers for bin/runc's seccomp support
build  pkg-config                   finds libseccomp for cgo
test   crun                         a second OCI runtime to run containers with
test   runc                         Debian's older OCI runtime, /usr/sbin/runc
test   busybox-static               the user land of the images that the tests build
test   containernetworking-plugins  CNI bridge, host-local, portmap and loopback in /usr/lib/cni
test   docker-registry              a real registry on loopback to pull from and push to
test   docker.io                    dockerd and its containerd 1.6, which drive the shim too
test   iproute2                     network namespaces for tests that make bridges
test   iptables                     rules that CNI's portmap and dockerd make, in such a namespace
test   procps                       process trees in the tests' reports
test   util-linux                   unshare and nsenter: namespaces of the tests' own
test   mount                        mounts in the tests' own namespaces
test   ca-certificates              roots that registry clients load
vm     qemu-system-x86              the virtual machine; it emulates the processor
vm     mmdebstrap                   makes the machine's Debian
vm     e2fsprogs                    makes its disks
LIST
}

say() { printf 'setup: %s\n' "$*"; }
fail() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

installed() {
	[[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Debian's packages start their daemons on installation. The tests start their
# own, so under systemd the units are masked in /run while apt works. Without
# systemd, RUNLEVEL=1 tells invoke-rc.d that no service belongs up.
units=(docker.service docker.socket containerd.service docker-registry.service)
masked=()

mask_units() {
	[[ -d /run/systemd/system ]] || return 0
	local unit
	for unit in "${units[@]}"; do
		# A unit that is known already is the machine's own business.
		if ! systemctl cat "$unit" >/dev/null 2>&1; then
			systemctl mask --quiet --runtime "$unit"
			masked+=("$unit")
		fi
	done
}

unmask_units() {
	((${#masked[@]})) && systemctl unmask --quiet --runtime "${masked[@]}"
	return 0
}

apt() {
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -y -q \
		-o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# True when apt knows a version of every package it is asked for.
known() {
	local name
	for name in "$@"; do
		[[ -n $(apt-cache --quiet=0 policy "$name" 2>/dev/null | sed -n 's/^ *Candidate: //p' | grep -v '(none)') ]] || return 1
	done
}

main() {
	local want=${1:-all} group name why
	local -a missing=()

	case $want in
	build | all | vm | list) ;;
	*) fail "unknown argument '$want': use build, vm, list or nothing" ;;
	esac
	if [[ $want == list ]]; then
		packages
		return
	fi
	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
		fail "this machine has no apt; install by hand what '$0 list' names"

	while read -r group name why; do
		[[ $group == "$want" || ($want == all && $group != vm) ]] || continue
		if installed "$name"; then
			continue
		fi
		missing+=("$name")
		say "needs $name: $why"
	done < <(packages)

	if ((${#missing[@]} == 0)); then
		say "nothing to install"
		return
	fi
	[[ $(id -u) == 0 ]] || fail "run as root to install: ${missing[*]}"

	if ! known "${missing[@]}"; then
		say "fetching apt's package lists"
		apt update || fail "apt-get update failed; see its messages above"
	fi
	trap unmask_units EXIT
	mask_units
	say "installing: ${missing[*]}"
	# A list older than the archive names files that are gone: refresh it and
	# say so.
	if ! apt install --no-install-recommends "${missing[@]}"; then
		say "installing failed; fetching apt's package lists anew"
		apt update || fail "apt-get update failed; see its messages above"
		apt install --no-install-recommends "${missing[@]}" ||
			fail "apt-get install failed; see its messages above"
	fi
	say "done"
}

main "$@"
