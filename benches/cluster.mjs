// What the benchmarks on Kubernetes share: a cluster, a registry in it, and commands that are timed as whole processes.

import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { missing, startCluster } from "../tools/lib/cluster.mjs"
import { serve } from "../tools/lib/registry.mjs"
import { testImage } from "../tools/lib/test-image.mjs"
import { root } from "./support.mjs"

/** A cluster with `bench/daemon:1` in a registry; ends the program with the reason where there can be none. */
export async function benchCluster() {
  const reason = missing()
  if (reason) {
    console.error(reason)
    process.exit(1)
  }
  const dir = mkdtempSync(join(tmpdir(), "alien-bench-"))
  const cluster = await startCluster()
  await testImage(join(dir, "image"))
  const registry = await serve({ "bench/daemon": join(dir, "image") }, cluster.hostAddress)
  const image = `${registry.url.replace("http://", "")}/bench/daemon:1`
  const space = {
    dir,
    cluster,
    /** A stack file of daemons `d0`, `d1`, …, or of the one `d`. */
    stackFile(name, count = 1) {
      const file = join(dir, `${name}.cjs`)
      const code = `const { Daemon, Stack } = require(${JSON.stringify(root)})
const stack = new Stack(${JSON.stringify(name)})
for (let i = 0; i < ${count}; i++) {
  const daemon = new Daemon(${count === 1 ? '"d"' : '"d" + i'}).code({ type: "image", image: ${JSON.stringify(image)} })
  stack.add(daemon.command(["/bin/daemon", "catch"]).cpu("1m").memory({ min: "16Mi", desired: "64Mi" }).permissions("none").build(), "live")
}
module.exports = stack.build()
`
      writeFileSync(file, code)
      return file
    },
    alien: (command, file, more = []) => timed(process.execPath, [...more, join(root, "js/cli.js"), command, "-p", "kubernetes", "-f", file]),
    kubectl: (args, input) => timed(cluster.program, ["kubectl", ...args], input),
    /** Requests of the administrator since a moment (ms since 1970), as the API server's audit log has them. */
    requests: (since) => readFileSync(cluster.auditLog, "utf8").trim().split("\n").map((line) => JSON.parse(line))
      .filter(({ user, stageTimestamp }) => user.username === "admin" && Date.parse(stageTimestamp) >= since),
    async close() {
      await registry.close()
      await cluster.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }

  /** A command that must succeed: `{ms, stdout, begun}`. The registry lives in this process, so nothing may block it. */
  async function timed(program, args, input) {
    const begun = Date.now()
    const start = performance.now()
    const child = spawn(program, args, { env: { ...process.env, KUBECONFIG: cluster.kubeconfig }, stdio: ["pipe", "pipe", "pipe"] })
    const said = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"]) child[name].setEncoding("utf8").on("data", (text) => (said[name] += text))
    child.stdin.end(input ?? "")
    const code = await new Promise((resolve) => child.on("close", resolve))
    if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${said.stderr}${said.stdout}`)
    return { ms: performance.now() - start, begun, ...said }
  }
  return space
}

/** Waits until the wall clock stands at a part (0 to 1) of a second. */
export async function phase(part) {
  const wait = (1000 + part * 1000 - (Date.now() % 1000)) % 1000
  await new Promise((resolve) => setTimeout(resolve, wait))
}
