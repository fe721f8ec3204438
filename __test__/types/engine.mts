// The engine's calls, as they may be used and as they may not.
import { Deployment, connect, deploy, deployments, plan, render } from "@alienplatform/core"
import type { Change, DeployEvent, DeployOptions, DeploymentStatus, ExecResult, ExternalBinding, LogLine, Plan, StackConfig } from "@alienplatform/core"

declare const stack: StackConfig

const options: DeployOptions = {
  platform: "local",
  name: "edge",
  timeoutMs: 60_000,
  signal: AbortSignal.timeout(1000),
  secrets: { connector: { TOKEN: "t" } },
  local: {
    stateDir: "/var/lib/alien",
    registries: { "ghcr.io": { mirror: "http://127.0.0.1:5000" }, "r.example": { insecure: true, caFile: "/ca.pem", username: "u", password: "p" } },
    dockerConfig: "/root/.docker/config.json",
    pull: "always",
  },
  kubernetes: {
    kubeconfig: "/a:/b",
    context: "c",
    namespace: "n",
    createNamespace: true,
    forceConflicts: true,
    onFailure: "keep",
    registries: { "docker.io": { host: "registry.corp:5000", username: "u", password: "p" } },
    dockerConfig: "/d",
  },
  bindings: { cache: { type: "kv", service: "redis", connectionUrl: { secretRef: { name: "n", key: "k" } }, database: 1 } },
  onEvent(event) {
    switch (event.type) {
      case "preflight":
        return void (event.report.ok satisfies boolean)
      case "waiting":
        return void (event.message satisfies string)
      case "plan":
        return void (event.plan satisfies Plan)
      case "image":
        return void ((event.bytes ?? 0) / (event.totalBytes ?? 1))
      case "resource":
        return void (event.state satisfies "starting" | "updating" | "restarting" | "running" | "stopping" | "removed")
      default:
        event satisfies never
    }
  },
}

const planned: Plan = await plan(stack, options)
const actions: Change["action"][] = planned.changes.map(({ action }) => action)
const deployment: Deployment = await deploy(stack, options)
await deploy(stack)
const status: DeploymentStatus = await deployment.status()
const pid: number | undefined = status.resources[0]?.pid
const signal: string | undefined = status.resources[0]?.lastExit?.signal
for await (const line of deployment.logs("connector", { tail: 10, since: new Date(), follow: true, signal: AbortSignal.timeout(1) })) {
  const { time, stream, line: text, partial }: LogLine = line
  void [time, stream satisfies "stdout" | "stderr", text, partial satisfies boolean | undefined]
}
for await (const event of deployment.events()) void (event satisfies DeployEvent)
await deployment.restart("connector", { timeoutMs: 1000 })
await deployment.rollback("connector", { signal: AbortSignal.timeout(1) })
for await (const { resources } of deployment.watch()) void [resources[0]?.pod, resources[0]?.node, resources[0]?.events?.[0]?.count]
for await (const { line } of deployment.logs("connector", { previous: true })) void line
const ran: ExecResult = await deployment.exec("connector", ["cat"], {
  stdin: process.stdin,
  tty: true,
  size: { columns: 80, rows: 24 },
  onStdout: (chunk) => process.stdout.write(chunk),
  onStderr: async (chunk) => void chunk.length,
})
const said: string = (await deployment.exec("connector", ["true"], { stdin: ["a", new Uint8Array()] })).stdout
const yaml: string = await render(stack, { platform: "kubernetes", bindings: options.bindings ?? {}, kubernetes: { namespace: "n" } })
await deployment.destroy({ data: true })
const found: Deployment = await connect({ name: "edge" })
const names: string[] = await deployments({ platform: "local", local: { stateDir: "/s" } })

// @ts-expect-error a deployment is made by deploy and connect
new Deployment("edge")
// @ts-expect-error which one?
await connect({ platform: "local" })
// @ts-expect-error no engine goes there
await deploy(stack, { platform: "aws" })
// @ts-expect-error a misspelt option
await deploy(stack, { timeoutMS: 1 })
// @ts-expect-error values are strings
await deploy(stack, { secrets: { d: { PORT: 80 } } })
// @ts-expect-error no such policy
await deploy(stack, { local: { pull: "never" } })
// @ts-expect-error a daemon is named
deployment.logs()
// @ts-expect-error there is no shell
await deployment.exec("connector", "ls -l")
// @ts-expect-error only Kubernetes has manifests
await render(stack, { platform: "local" })
// @ts-expect-error a bucket has a name
const nameless: ExternalBinding = { type: "storage", service: "s3" }
// @ts-expect-error no service of a queue
const wrong: ExternalBinding = { type: "queue", service: "s3", bucketName: "b" }
// @ts-expect-error no such event
const other: DeployEvent = { type: "other" }

export { actions, pid, signal, found, names, other, ran, said, yaml, nameless, wrong }
