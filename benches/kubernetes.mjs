// A deploy into a cluster beside kubectl with the same manifests, on the tests' own Kubernetes: the first deploy to
// available, and one with nothing to change.
//
//   node benches/kubernetes.mjs [RUNS]
//
// kubectl is a process for each command and `deploy` a call, so each deploy is made by a Node of its own here, as from CI.

import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { missing, startCluster } from "../tools/lib/cluster.mjs"
import { serve } from "../tools/lib/registry.mjs"
import { testImage } from "../tools/lib/test-image.mjs"
import { median, root, spread } from "./support.mjs"

const reason = missing()
if (reason) {
  console.error(reason)
  process.exit(1)
}
const runs = Number(process.argv[2] ?? 7)
const dir = mkdtempSync(join(tmpdir(), "alien-bench-"))
const cluster = await startCluster()
await testImage(join(dir, "image"))
const registry = await serve({ "bench/daemon": join(dir, "image") }, cluster.hostAddress)

const file = join(dir, "alien.cjs")
writeFileSync(
  file,
  `const { Daemon, Stack } = require(${JSON.stringify(root)})
const daemon = new Daemon("d").code({ type: "image", image: ${JSON.stringify(`${registry.url.replace("http://", "")}/bench/daemon:1`)} })
module.exports = new Stack("bench").add(daemon.command(["/bin/daemon", "catch"]).permissions("none").build(), "live").build()
`,
)

/** Milliseconds that a command takes; it must succeed. The registry lives in this process, so it must not be blocked. */
async function timed(program, args, input) {
  const { spawn } = await import("node:child_process")
  const start = performance.now()
  const child = spawn(program, args, { env: { ...process.env, KUBECONFIG: cluster.kubeconfig }, stdio: ["pipe", "pipe", "pipe"] })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text))
  child.stdin.end(input ?? "")
  const code = await new Promise((resolve) => child.on("close", resolve))
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${said}`)
  return performance.now() - start
}

const alien = (command) => timed(process.execPath, [join(root, "js/cli.js"), command, "-p", "kubernetes", "-f", file])
const kubectl = (args, input) => timed(cluster.program, ["kubectl", ...args], input)
const rendered = spawnSync(process.execPath, [join(root, "js/cli.js"), "render", "-p", "kubernetes", "-f", file], { encoding: "utf8" })
if (rendered.status !== 0) throw new Error(rendered.stderr)
const times = { deploy: [], apply: [], again: [], applyAgain: [] }
try {
  for (let run = 0; run <= runs; run++) {
    const one = {}
    one.deploy = await alien("deploy")
    one.again = await alien("deploy")
    await alien("destroy")
    one.apply = (await kubectl(["apply", "-f", "-"], rendered.stdout)) + (await kubectl(["rollout", "status", "deployment/bench-d"]))
    one.applyAgain = await kubectl(["apply", "-f", "-"], rendered.stdout)
    await kubectl(["delete", "--wait", "--cascade=foreground", "-f", "-"], rendered.stdout)
    // The first run pulls the image.
    if (run > 0) for (const [name, time] of Object.entries(one)) times[name].push(time)
  }
  console.log(`first deploy to available:               ${spread(times.deploy, 0)} ms`)
  console.log(`kubectl apply, then rollout status:      ${spread(times.apply, 0)} ms`)
  console.log(`ratio of medians, kubectl / deploy:      ${(median(times.apply) / median(times.deploy)).toFixed(2)} (goal: at least 1)`)
  console.log(`deploy with nothing to change:           ${spread(times.again, 0)} ms`)
  console.log(`kubectl apply with nothing to change:    ${spread(times.applyAgain, 0)} ms`)
  console.log(`ratio of medians, kubectl / deploy:      ${(median(times.applyAgain) / median(times.again)).toFixed(2)} (goal: at least 1)`)
} finally {
  await registry.close()
  await cluster.close()
  rmSync(dir, { recursive: true, force: true })
}
process.exit(0)
