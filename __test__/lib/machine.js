"use strict"

// A machine that systemd has booted: this one's files below a layer of its own, in namespaces, as a container of the
// `systemd-nspawn --boot` kind. What is written outlives a reboot; nothing of it reaches the machine outside.

const { spawnSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const { eventually, isAlive, isRoot, root } = require("./bed.js")
const { start } = require("./process.js")

/** What may take long: a boot and an orderly end, on a machine with much else to do. */
const PATIENCE = 40_000
/** Where the machine has a folder of a real file system, for images and state directories. */
const DATA = "/srv/alien"

const init = () => ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].find((file) => fs.existsSync(file))

/** Where control groups of version 2 are mounted, with whatever controllers. */
function unified() {
  const lines = fs.readFileSync("/proc/self/mountinfo", "utf8").split("\n")
  return lines.find((line) => / - cgroup2 /.test(line))?.split(" ")[4]
}

/** Why there can be none here; undefined where there can. */
function missingMachine() {
  if (!isRoot) return "a machine is booted as root"
  if (init() === undefined) return "systemd is missing: apt install systemd dbus libpam-systemd"
  if (unified() === undefined) return "no control groups of version 2 are mounted here"
  const words = ["--mount", "--pid", "--fork", "--net", "--cgroup", "true"]
  return spawnSync("unshare", words).status === 0 ? undefined : "namespaces are not allowed here"
}

/** Runs a program in a control group. */
const JOIN = 'echo 0 > "$0/cgroup.procs" && exec "$@"'

/** Makes the root of the machine and gives the process over to its init. That one changes none of the kernel's own settings. */
const BOOT = `
set -e
dir=$1 package=$2 init=$3 r=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$r"
if [ ! -e "$dir/begun" ]; then
  # Services of the machine outside are none of ours.
  rm -rf "$r"/etc/systemd/system/* "$r"/etc/systemd/user/* "$r"/var/lib/systemd/linger "$r"/etc/machine-id
  : > "$r/etc/machine-id"
  mkdir -p "$r${DATA}" "$r$package"
  # The kernel lets users' namespaces have a /proc only where all of one is seen.
  units=$r/etc/systemd/system
  mkdir "$units/sysinit.target.wants"
  printf '%s\\n' '[Unit]' DefaultDependencies=no After=systemd-sysctl.service Before=sysinit.target \
    '[Service]' Type=oneshot 'ExecStart=umount --lazy /proc/sys' > "$units/all-of-proc.service"
  ln -s ../all-of-proc.service "$units/sysinit.target.wants/"
  : > "$dir/begun"
fi
mount -t proc proc "$r/proc"
mount --bind "$r/proc/sys" "$r/proc/sys"
mount -o remount,bind,ro "$r/proc/sys"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/run"
mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for name in null zero full random urandom tty; do : > "$r/dev/$name"; mount --bind "/dev/$name" "$r/dev/$name"; done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
mount --bind "$dir/data" "$r${DATA}"
mount --bind "$package" "$r$package"
cd "$r"
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
hostname alien-test
exec env -i container=alien-test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$init" --log-target=journal --show-status=no
`

/**
 * A machine, not booted yet. It is off and gone at the end of the bed that it is of.
 *
 * @param {{folder: string, later: (close: () => unknown) => void}} bed
 */
function testMachine(bed) {
  const dir = path.join(bed.folder, "machine")
  const group = path.join(unified() ?? "", path.basename(bed.folder))
  const console_ = path.join(group, "console")
  let outer
  let leader

  const machine = {
    /** `DATA` as it is called outside. */
    data: path.join(dir, "data"),
    async boot() {
      for (const name of ["upper", "work", "root", "data"]) fs.mkdirSync(path.join(dir, name), { recursive: true })
      fs.mkdirSync(group, { recursive: true })
      const namespaces = ["--pid", "--fork", "--kill-child=SIGKILL", "--mount", "--uts", "--ipc", "--net", "--propagation=private"]
      // Who waits for it is not in its group: one with processes hands no controllers on.
      outer = start("unshare", [...namespaces, "sh", "-c", JOIN, group, "unshare", "--cgroup", "sh", "-c", BOOT, "boot", dir, root, init()])
      const said = () => `${outer.stdout}${outer.stderr}`
      const state = await eventually(() => {
        if (outer.child.exitCode !== null) throw new Error(`the machine does not boot: ${said()}`)
        leader = childOf(outer.pid)
        // Before that it is not yet the init of a system of its own.
        if (leader === undefined || !/systemd$/.test(programOf(leader))) return undefined
        const { stdout } = spawnSync("nsenter", [...inside(), "systemctl", "is-system-running"], { encoding: "utf8" })
        return stdout.trim()
      }, (state) => ["running", "degraded"].includes(state), PATIENCE)
      fs.mkdirSync(console_, { recursive: true })
      if (state === "degraded") throw new Error(`the machine lacks something: ${(await machine.run(["systemctl", "--failed"])).stdout}`)
    },
    /** Runs a program there, as root, as a user who logs in, or as `sudo -u` does: `{code, stdout, stderr}`. */
    async run(args, { user, session = user !== undefined, env = {} } = {}) {
      const plain = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", ...variables({ HOME: user ? `${DATA}/${user}` : "/root", ...env }), ...args]
      const login = ["su", "--login", user, "--command", ["env", ...variables(env), ...args].map(quoted).join(" ")]
      const words = session ? login : user === undefined ? plain : ["runuser", "--user", user, "--", ...plain]
      const its = start("sh", ["-c", JOIN, console_, "nsenter", ...inside(), ...words])
      const killer = setTimeout(() => its.signal("SIGKILL"), PATIENCE)
      const code = await its.ended
      clearTimeout(killer)
      return { code, stdout: its.stdout, stderr: its.stderr }
    },
    /** Makes an account with subordinate ids; its home is below `DATA`. */
    async account(name) {
      const made = await machine.run(["sh", "-c", 'useradd --create-home --home-dir "$1" "$0" && usermod --add-subuids 700000-765535 --add-subgids 700000-765535 "$0"', name, `${DATA}/${name}`])
      if (made.code !== 0) throw new Error(made.stderr)
    },
    /** The `alien` command there. */
    alien: (args, options) => machine.run([process.execPath, path.join(root, "js/cli.js"), ...args], options),
    /** In order: every unit is stopped. */
    async off() {
      await machine.run(["systemctl", "poweroff"])
      const end = setTimeout(() => outer.signal("SIGKILL"), PATIENCE)
      await outer.ended
      clearTimeout(end)
    },
    /** As when the mains fail. */
    async lose() {
      await outer.kill()
      await eventually(() => !isAlive(leader))
    },
  }

  const inside = () => [`--target=${leader}`, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]

  bed.later(async () => {
    if (outer !== undefined && outer.child.exitCode === null && outer.child.signalCode === null) await machine.lose()
    await eventually(() => removeGroup(group))
  })
  return machine
}

const variables = (env) => Object.entries(env).map(([name, value]) => `${name}=${value}`)
const quoted = (word) => `'${word.replaceAll("'", `'\\''`)}'`

function childOf(pid) {
  try {
    return Number(fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]) || undefined
  } catch {
    return undefined
  }
}

function programOf(pid) {
  try {
    return fs.readlinkSync(`/proc/${pid}/exe`)
  } catch {
    return ""
  }
}

/** Removes a control group with those below it; whether it is gone. What has just ended may be in there a moment longer. */
function removeGroup(dir) {
  if (!fs.existsSync(dir)) return true
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) if (entry.isDirectory()) removeGroup(path.join(dir, entry.name))
  try {
    fs.rmdirSync(dir)
    return true
  } catch (error) {
    if (error.code !== "EBUSY") throw error
    return false
  }
}

module.exports = { DATA, missingMachine, testMachine }
