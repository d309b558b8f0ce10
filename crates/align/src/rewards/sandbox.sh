# Runs a program that nobody trusts, in the namespaces that `unshare` made for it (`--mount --net --pid --ipc --fork`, and `--user
# --map-root-user` where the one who starts it is no other user than the program's):
#     sandbox.sh USER WORK READABLE… -- COMMAND…
# Its file system is in memory, mounted in the folder WORK, and holds the folders READABLE, which nobody can write. COMMAND begins in an
# empty folder, as the user with the number USER, or as the one who starts it where that is `-`.
set -eu
# Whoever the program runs as reaches the folders that are made here.
umask 022
user=$1
root=$2/root
shift 2
mkdir "$root"
# Empty files take memory of the kernel's, which the size does not count: their number has a limit of its own.
mount -t tmpfs -o mode=755,size=64m,nr_inodes=8192,nosuid,nodev sandbox "$root"
mkdir "$root/dev" "$root/tmp" "$root/answer" "$root/old" "$root/proc"
chmod 1777 "$root/tmp" "$root/answer"
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
# Without capabilities it can neither undo these mounts nor leave.
set -- --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
if [ "$user" != - ]; then
    set -- --reuid="$user" --regid="$user" --clear-groups "$@"
fi
status=0
setpriv "$@" || status=$?
exit "$status"
