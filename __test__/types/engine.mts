// The engine's calls, as they may be used and as they may not.
import { Deployment, connect, deploy, deployments, plan } from "@alienplatform/core"
import type { Change, DeployEvent, DeployOptions, DeploymentStatus, LogLine, Plan, StackConfig } from "@alienplatform/core"

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
// @ts-expect-error no such event
const other: DeployEvent = { type: "other" }

export { actions, pid, signal, found, names, other }
