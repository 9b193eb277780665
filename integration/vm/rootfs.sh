#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the virtual machine's root: a Debian with systemd and its kernel. Takes
# the directory to fill; leaves root.img, vmlinuz and initrd there. What it
# makes depends on nothing but this file (and Debian's archive), so the caller
# keeps it under the file's checksum.
set -euo pipefail

out=$1
root=$out/root
trap 'rm -rf --one-file-system "$root"' EXIT

packages=(
	# The machine: init, kernel, what makes devices and networks.
	systemd systemd-sysv dbus udev kmod linux-image-amd64 iproute2 iptables procps util-linux mount
	# File systems to test quotas on.
	xfsprogs e2fsprogs quota
	# What containers need: a second runtime, checkpoints, networks, and a user land
	# for images. Not Debian's runc: quoind would take it for its own.
	crun criu containernetworking-plugins busybox-static libseccomp2 ca-certificates
)

# Only what a virtio machine boots with: Debian's full initramfs takes an
# emulated processor ten seconds to unpack.
modules='virtio_pci virtio_blk virtio_console ext4 crc32c_generic overlay'

list=$(IFS=,; printf '%s' "${packages[*]}")
mmdebstrap --quiet --variant=minbase --include="$list" \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/*' \
	--dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/media/*' --dpkgopt='path-exclude=/lib/modules/*/kernel/sound/*' \
	--dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/wireless/*' \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && printf "MODULES=list\nCOMPRESS=gzip\n" >"$1/etc/initramfs-tools/conf.d/vm"' \
	--essential-hook="printf '%s\n' $modules >\"\$1/etc/initramfs-tools/modules\"" \
	bookworm "$root"

echo quoin-vm >"$root/etc/hostname"
printf '127.0.0.1 localhost quoin-vm\n' >"$root/etc/hosts"
# A machine id of its own, so that systemd's first boot has nothing to set up.
printf '%032x\n' 7 >"$root/etc/machine-id"
printf 'root:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
mkdir -p "$root/opt/quoin"
cat >"$root/etc/fstab" <<'FSTAB'
/dev/vda / ext4 noatime 0 0
/dev/vdb /opt/quoin ext4 ro 0 0
FSTAB

# The log is read while the machine runs, and all of it counts.
mkdir -p "$root/etc/systemd/journald.conf.d"
cat >"$root/etc/systemd/journald.conf.d/vm.conf" <<'JOURNAL'
[Journal]
Storage=volatile
RateLimitIntervalSec=0
ForwardToSyslog=no
JOURNAL

# The beds with systemd: tests start when the machine is up and are its end.
cat >"$root/etc/systemd/system/quoin-guest.service" <<'UNIT'
[Unit]
Description=Quoin's tests
After=multi-user.target
RequiresMountsFor=/opt/quoin
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=exec
ExecStart=/opt/quoin/guest
Environment=HOME=/root
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStopSec=30
UNIT
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -s /etc/systemd/system/quoin-guest.service "$root/etc/systemd/system/graphical.target.wants/"
for unit in serial-getty@ttyS0.service getty@tty1.service systemd-timesyncd.service apt-daily.timer \
	apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	systemd-update-utmp.service systemd-networkd.service quota.service quotarpc.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# The bed without systemd: this shell is process 1, and reaps what is orphaned.
cat >"$root/sbin/bare-init" <<'INIT'
#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts -o mode=620,ptmxmode=666
mount -t tmpfs tmpfs /dev/shm
mountpoint -q /run || mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
modprobe virtio_console
modprobe overlay
ip link set lo up
mount -o ro /dev/vdb /opt/quoin
/opt/quoin/guest
sync
poweroff -f
INIT
chmod 755 "$root/sbin/bare-init"

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
rm -rf "$root"/boot/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
# Nothing outlives a crash of the machine, so no journal guards it.
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d "$root" "$out/root.img" 4G
