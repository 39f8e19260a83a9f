# Podman with an image made of busybox, without network, in a storage of its own. Debian: podman runc catatonit
# busybox-static.
example=container

podman_words() {
    echo "podman"
    echo "--root=$scratch/podman/store"
    echo "--runroot=$scratch/podman/run"
    printf '%s\n' $options
}
# For a host with cgroups of version 1, and one where podman may raise no limits; see `boathook help elsewhere`.
options="--storage-driver=vfs --runtime=/usr/sbin/runc"

adapted() {
    local words first
    words=$(podman_words | sed 's/^/    - /')
    first=$(podman_words | paste -sd, | sed 's/,/, /g')
    # The client's name becomes several words, in the list and in the cleanup, which is that of podman.
    awk -v words="$words" -v first="$first" -v mount="$scratch" '
        $0 == "    - docker" { print words; next }
        /registry.example.com/ {
            print "    - --network=none"
            print "    - --ulimit=nofile=1024:1024"
            print "    - --ulimit=nproc=1000:1000"
            print "    - --volume=" mount ":" mount
            print "    - localhost/busybox:engines"
            next
        }
        /--env=TOKEN/ { next }
        /cleanup:/ { print "  cleanup: [" first ", rm, --force, --ignore, --time=5, \"${SHIPYARD_LOG_ID}\"]"; next }
        { print }'
}

engine_up() {
    mkdir -p "$scratch/image/bin" "$scratch/podman"
    cp /usr/bin/busybox "$scratch/image/bin/"
    for name in sh cat date echo grep ls dirname sleep sha256sum; do
        ln -s busybox "$scratch/image/bin/$name"
    done
    # busybox has no flock in Debian.
    for file in /usr/bin/flock $(ldd /usr/bin/flock | grep -o '/[^ ]*'); do
        mkdir -p "$scratch/image$(dirname "$file")"
        cp -L "$file" "$scratch/image$file"
    done
    tar -C "$scratch/image" -c . | $(podman_words | paste -sd' ') import - localhost/busybox:engines
}

engine_down() {
    $(podman_words | paste -sd' ') rm --all --force --time=0 > /dev/null 2>&1
}
