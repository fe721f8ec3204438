// The tests' Kubernetes by hand.
//
//   node tools/cluster.mjs build       builds its program, where that was not done yet, and prints where it is
//   node tools/cluster.mjs up [DIR]    runs one until Ctrl-C, and prints what to export

import { buildCluster, missing, startCluster } from "./lib/cluster.mjs"

const [command, dir] = process.argv.slice(2)
if (command === "build") {
  console.log(buildCluster())
} else if (command === "up") {
  const reason = missing()
  if (reason) {
    console.error(reason)
    process.exit(1)
  }
  const cluster = await startCluster({ dir })
  console.log(`export KUBECONFIG=${cluster.kubeconfig}   # registries: ${cluster.hostAddress}:PORT`)
  console.error("It runs until Ctrl-C.")
  const timer = setInterval(() => {}, 1 << 30)
  process.once("SIGINT", async () => {
    await cluster.close()
    clearInterval(timer)
  })
} else {
  console.error("usage: node tools/cluster.mjs build | up [DIR]")
  process.exit(2)
}
