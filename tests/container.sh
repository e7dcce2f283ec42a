#!/bin/sh
# Becomes a command in what a container of the store is given: `unshare --mount tests/container.sh ROOT USER
# WRITABLE FILES COMMAND...`. Everything is read-only but the folders WRITABLE, which are empty; of the
# checkout there is what FILES names, and the user has no rights. With the command its mounts are gone.
set -eu
root=$1 user=$2 writable=$3 files=$4
shift 4

read_only() { mkdir -p "$root$1" && mount --bind "$1" "$root$1" && mount -o remount,bind,ro "$root$1"; }

mount -t tmpfs -o mode=755 image "$root"
for path in /bin /sbin /lib /lib64; do
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$root$path"; fi
    if [ -d "$path" ] && [ ! -L "$path" ]; then read_only "$path"; fi
done
read_only /usr
read_only /etc
mkdir -p "$root/proc" "$root/tmp" "$root/dev/shm" "$root/app/var"
mount --rbind /proc "$root/proc"
for device in null urandom; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
done
for path in $writable; do
    mkdir -p "$root$path" && mount -t tmpfs -o mode=777 emptydir "$root$path"
done
read_only "$PYTHON_HOME"
read_only "$PYTHON_ENVIRONMENT"
cp -r --parents $files "$root/app"
chown "$user" "$root/app/var"
mount -o remount,ro "$root"
exec chroot "$root" env -C /app setpriv --reuid "$user" --regid "$user" --clear-groups \
    --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
