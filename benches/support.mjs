// What the benchmarks share: a folder of their own, an image with a program whose start can be timed, and numbers.

import { spawn, spawnSync } from "node:child_process"
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Layout } from "../tools/lib/oci.mjs"

export const root = join(dirname(fileURLToPath(import.meta.url)), "..")

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

/** `median (min–max)`, in the numbers' own unit. */
export function spread(numbers, digits = 2) {
  const [least, middle, most] = [Math.min(...numbers), median(numbers), Math.max(...numbers)].map((n) => n.toFixed(digits))
  return `${middle} (${least}–${most}, ${numbers.length} runs)`
}

/** One of the programs beside this file as a static binary: `clock`, `flood`. */
export function program(name) {
  const source = join(root, "benches", `${name}.rs`)
  const made = join(root, "target", "benches", name)
  if (existsSync(made) && statSync(made).mtimeMs >= statSync(source).mtimeMs) return made
  mkdirSync(dirname(made), { recursive: true })
  const args = ["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "--edition", "2024", "-o", made, source]
  const { status, stderr } = spawnSync("rustc", args, { encoding: "utf8" })
  if (status !== 0) throw new Error(`rustc: ${stderr}`)
  chmodSync(made, 0o755)
  return made
}

/** A state directory and an image of one of the programs, which it runs. */
export async function workspace(name = "clock") {
  const dir = mkdtempSync(join(tmpdir(), "alien-bench-"))
  const layout = new Layout(join(dir, "image"))
  const layer = await layout.layer([{ path: name, from: program(name), mode: 0o755 }], { compression: "none" })
  layout.image("v1", [layer], { Entrypoint: [`/${name}`] })
  return { dir, stateDir: join(dir, "state"), image: `oci:${join(dir, "image")}:v1`, layout, layer }
}

export const closeWorkspace = ({ dir }) => rmSync(dir, { recursive: true, force: true })

/** Runs a program to its end; what it printed. */
export function run(program, args, options) {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 28, ...options })
  if (error) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`)
  return stdout.trim()
}

/** Asks again until the answer is something. */
export async function until(ask, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; ; ) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`not so within ${seconds} s`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const isRoot = process.getuid() === 0
export const isThere = (name) => spawnSync("sh", ["-c", `command -v ${name}`]).status === 0

/** KiB that belong to a process alone (proc(5), smaps_rollup). */
export function privateMemory(pid) {
  const lines = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_\w+:\s+(\d+) kB/gm)
  return [...lines].reduce((sum, [, kib]) => sum + Number(kib), 0)
}

/**
 * A Docker engine of its own, as a machine would have it but for the network, which it leaves alone; undefined where none can be started.
 *
 * @returns {Promise<{cli: (args: string[]) => string, command: string[], load: (image: string) => string, log: (container: string) => string, stop: () => Promise<void>} | undefined>}
 */
export async function docker(space) {
  if (!isRoot || !isThere("dockerd")) return undefined
  const dir = join(space.dir, "docker")
  mkdirSync(dir)
  const at = (name) => join(dir, name)
  writeFileSync(at("daemon.json"), "{}")
  const log = openSync(at("log"), "w")
  // With a /run of its own it starts a containerd of its own.
  const args = ["--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", "dockerd"]
  args.push("--config-file", at("daemon.json"), "--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"), "--host", `unix://${at("sock")}`)
  args.push("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
  const child = spawn("unshare", args, { stdio: ["ignore", log, log] })
  const ended = new Promise((resolve) => child.once("close", resolve))
  const command = ["docker", "--host", `unix://${at("sock")}`]
  const cli = (words) => run(command[0], [...command.slice(1), ...words])
  await until(() => spawnSync(command[0], [...command.slice(1), "version"]).status === 0)
  return {
    cli,
    command,
    quirks: [],
    pid: child.pid,
    host: `unix://${at("sock")}`,
    /** The file that a container's output goes to. */
    log: (container) => join(at("data"), "containers", container, `${container}-json.log`),
    load(image) {
      const tag = `bench/${basename(image.split(":")[1])}:v1`
      run("skopeo", ["copy", "--quiet", "--dest-daemon-host", `unix://${at("sock")}`, image, `docker-daemon:${tag}`])
      return tag
    },
    async stop() {
      child.kill("SIGTERM")
      await ended
      closeSync(log)
      for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
        const mount = line.split(" ")[4]
        if (mount?.startsWith(dir)) spawnSync("umount", ["-l", mount])
      }
    },
  }
}

/** Podman with storage of its own; undefined where it is not installed. */
export function podman(space) {
  if (!isRoot || !isThere("podman")) return undefined
  const dir = join(space.dir, "podman")
  const command = ["podman", "--root", join(dir, "root"), "--runroot", join(dir, "run"), "--tmpdir", join(dir, "tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"]
  const cli = (words) => run(command[0], [...command.slice(1), ...words])
  return {
    cli,
    command,
    // Where nobody may raise limits, and there is no journal.
    quirks: ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=30000:30000", "--log-driver", "k8s-file"],
    load(image) {
      const tag = `localhost/bench/${basename(image.split(":")[1])}:v1`
      run("skopeo", ["copy", "--quiet", image, `containers-storage:[overlay@${join(dir, "root")}+${join(dir, "run")}]${tag}`])
      return tag
    },
    stop() {
      spawnSync(command[0], [...command.slice(1), "system", "reset", "--force"])
    },
  }
}
