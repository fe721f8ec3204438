// A deploy into a cluster beside kubectl with the same manifests, on the tests' own Kubernetes: the first deploy to
// available, and one with nothing to change.
//
//   node benches/kubernetes.mjs [RUNS]
//
// kubectl is a process for each command and `deploy` a call, so each deploy is made by a Node of its own here, as from CI.
// Kubernetes counts `minReadySeconds` in whole seconds of the wall clock, so one deploy takes up to a second longer than
// another by when it began: runs begin at evenly spread parts of a second, both in the same, and means are compared.

import { benchCluster, phase } from "./cluster.mjs"
import { median, spread } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const { alien, kubectl, stackFile, close } = await benchCluster()
const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length
const times = { deploy: [], apply: [], again: [], applyAgain: [] }
try {
  const file = stackFile("bench")
  const manifests = (await alien("render", file)).stdout
  for (let run = -1; run < runs; run++) {
    const one = {}
    await phase(run / runs)
    one.deploy = (await alien("deploy", file)).ms
    one.again = (await alien("deploy", file)).ms
    await alien("destroy", file)
    await phase(run / runs)
    one.apply = (await kubectl(["apply", "-f", "-"], manifests)).ms + (await kubectl(["rollout", "status", "deployment/bench-d"])).ms
    one.applyAgain = (await kubectl(["apply", "-f", "-"], manifests)).ms
    await kubectl(["delete", "--wait", "--cascade=foreground", "-f", "-"], manifests)
    // The first run pulls the image.
    if (run >= 0) for (const [name, time] of Object.entries(one)) times[name].push(time)
  }
  console.log(`first deploy to available:               mean ${mean(times.deploy).toFixed(0)}, median ${spread(times.deploy, 0)} ms`)
  console.log(`kubectl apply, then rollout status:      mean ${mean(times.apply).toFixed(0)}, median ${spread(times.apply, 0)} ms`)
  console.log(`ratio of means, kubectl / deploy:        ${(mean(times.apply) / mean(times.deploy)).toFixed(2)} (goal: at least 1)`)
  console.log(`deploy with nothing to change:           ${spread(times.again, 0)} ms`)
  console.log(`kubectl apply with nothing to change:    ${spread(times.applyAgain, 0)} ms`)
  console.log(`ratio of medians, kubectl / deploy:      ${(median(times.applyAgain) / median(times.again)).toFixed(2)} (goal: at least 1)`)
} finally {
  await close()
}
process.exit(0)
