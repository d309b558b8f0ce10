# Runs a program that nobody trusts, in the namespaces that `unshare --user --map-root-user --mount --net --pid --ipc --fork` made:
#     sandbox.sh WORK READABLE… -- COMMAND…
# Its file system is in memory, mounted in the folder WORK, and holds the folders READABLE, which nobody can write. COMMAND begins in an
# empty folder.
set -eu
root=$1/root
shift
mkdir "$root"
mount -t tmpfs -o mode=755,size=64m,nosuid,nodev sandbox "$root"
mkdir "$root/dev" "$root/tmp" "$root/answer" "$root/old" "$root/proc"
while [ "$1" != -- ]; do
    place=$1
    shift
    if [ -L "$place" ]; then
        mkdir -p "$root${place%/*}"
        ln -s "$(readlink "$place")" "$root$place"
    elif [ -d "$place" ]; then
        mkdir -p "$root$place"
        mount --bind "$place" "$root$place"
        mount -o remount,bind,ro,nosuid,nodev "$root$place"
    fi
done
shift
for device in null zero random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
# `umount` looks there for what is mounted.
mount --rbind /proc "$root/proc"
cd "$root"
pivot_root . old
cd /
umount -l /old
umount -l /proc
rmdir /old /proc
cd /answer
status=0
# Without capabilities it can neither undo these mounts nor leave.
setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@" || status=$?
exit "$status"
