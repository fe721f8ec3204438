// Many daemons at once, beside kubectl with the same manifests, on the tests' own Kubernetes.
//
//   node benches/kubernetes-many.mjs [DAEMONS] [RUNS]
//
// kubectl does not wait until they are up; so what is compared is the time from a command's start to the last object that
// it wrote, by the API server's audit log. Memory is the largest resident set of the deploying process, above that of one
// which loads the same stack and checks it.

import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { benchCluster } from "./cluster.mjs"
import { median, spread } from "./support.mjs"

const daemons = Number(process.argv[2] ?? 200)
const runs = Number(process.argv[3] ?? 3)
const { alien, kubectl, requests, stackFile, cluster, dir, close } = await benchCluster()
const figures = { applied: [], up: [], kubectl: [], memory: [] }

/** Makes a Node tell its largest resident set, in MiB, as its last line. */
const tell = join(dir, "tell.cjs")
writeFileSync(tell, `process.on("exit", () => process.stderr.write("\\nrss " + process.resourceUsage().maxRSS / 1024 + "\\n"))`)
const largest = ({ stderr }) => Number(stderr.match(/\nrss ([\d.]+)/)[1])

/** The time from a command's start to its last write that was no rehearsal. */
function lastWrite({ begun }) {
  const writes = requests(begun).filter(({ verb, requestURI, objectRef }) =>
    ["create", "patch", "update"].includes(verb) && !requestURI.includes("dryRun") && ["deployments", "serviceaccounts"].includes(objectRef?.resource))
  return Math.max(...writes.map(({ stageTimestamp }) => Date.parse(stageTimestamp))) - begun
}

try {
  // One pod has pulled the image, whoever comes first.
  const warm = stackFile("warm")
  await alien("deploy", warm)
  await alien("destroy", warm)
  const file = stackFile("bench", daemons)
  const manifests = (await alien("render", file)).stdout
  const own = largest(await alien("preflight", file, ["--require", tell]))
  for (let run = 0; run < runs; run++) {
    const deployed = await alien("deploy", file, ["--require", tell])
    figures.applied.push(lastWrite(deployed))
    figures.up.push(deployed.ms)
    figures.memory.push(largest(deployed) - own)
    await alien("destroy", file)
    figures.kubectl.push(lastWrite(await kubectl(["apply", "-f", "-"], manifests)))
    await kubectl(["delete", "--wait", "--cascade=foreground", "-f", "-"], manifests)
  }
  console.log(`${daemons} daemons, planned and applied:     ${spread(figures.applied, 0)} ms`)
  console.log(`kubectl apply of the same manifests:  ${spread(figures.kubectl, 0)} ms`)
  console.log(`ratio of medians, kubectl / deploy:   ${(median(figures.kubectl) / median(figures.applied)).toFixed(2)} (goal: at least 2)`)
  console.log(`deploy until all are up:              ${spread(figures.up, 0)} ms`)
  console.log(`memory above the package's own:       ${spread(figures.memory, 1)} MiB (goal: at most 64)`)
} catch (error) {
  console.error(`the cluster's logs are below ${cluster.dir}/log until it ends: ${error.message}`)
  process.exitCode = 1
} finally {
  await close()
}
process.exit()
