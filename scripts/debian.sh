# Packages of other releases of Debian than the machine's, from the mirror that it uses: downloaded, never
# installed. Sourced by scripts that set $dir, a folder for what apt needs meanwhile.

# The mirror that this machine gets Debian's own packages from.
mirror() {
	apt-get indextargets --format '$(CREATED_BY)|$(ORIGIN)|$(LABEL)|$(REPO_URI)' |
		sed -n 's/^Packages|Debian|Debian|//p' | head -n 1
}

# apt with lists and sources of its own, of other releases and another architecture than the machine's.
apt_private() {
	local command=$1 release=$2
	shift 2
	"$command" -qq -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::Etc::SourceList=$dir/$release.list" -o Dir::Etc::SourceParts=- \
		-o "Dir::State::Lists=$dir/lists-$release" -o "Dir::Cache=$dir/cache-$release" \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Downloads the newest package that fits a pattern, for an architecture, into the current folder; and the
# two that Debian puts a kernel's files into since 7.
download() {
	local release=$1 pattern=$2 arch=$3 from package part
	from=$(mirror)
	if [ -z "$from" ]; then
		apt-get update -qq
		from=$(mirror)
	fi
	if [ -z "$from" ]; then
		echo "$0: apt knows no mirror of Debian: give the path of a .deb instead of $release." >&2
		return 1
	fi
	echo "deb [arch=$arch signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $release main" >"$dir/$release.list"
	mkdir -p "$dir/lists-$release/partial" "$dir/cache-$release/archives/partial"
	apt_private apt-get "$release" update
	package=$(apt_private apt-cache "$release" pkgnames | grep -Ex "$pattern" | sort -V | tail -n 1)
	if [ -z "$package" ]; then
		echo "$0: $release has no package like $pattern." >&2
		return 1
	fi
	apt_private apt-get "$release" download "$package"
	for part in "${package/linux-image-/linux-binary-}" "${package/linux-image-/linux-modules-}"; do
		if [ "$part" != "$package" ] && [ -n "$(apt_private apt-cache "$release" pkgnames "$part")" ]; then
			apt_private apt-get "$release" download "$part"
		fi
	done
	rm -rf "$dir/lists-$release" "$dir/cache-$release" "$dir/$release.list"
}
