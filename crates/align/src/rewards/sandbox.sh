# Runs a program that nobody trusts, in the namespaces that `unshare --user --map-root-user --mount --net --pid --ipc --fork` made:
#     sandbox.sh WORK RESULT READABLE… -- COMMAND…
# Its file system is in memory and holds the folders READABLE, which nobody can write, and WORK's answer.py. If COMMAND ends well, the
# file RESULT that it left in its working folder comes into WORK's file `result`.
set -eu
work=$1 result=$2
shift 2
exec 3> "$work/result"
root=$work/root
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
if [ -e "$work/answer.py" ]; then cp "$work/answer.py" "$root/answer/"; fi
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
setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@" 3>&- || status=$?
if [ "$status" = 0 ] && [ -f "$result" ]; then head -c 64 "$result" >&3; fi
exit "$status"
