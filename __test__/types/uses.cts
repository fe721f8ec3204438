// What must type-check, and what must not: an @ts-expect-error that finds no error is an error itself.
import alien = require("@alienplatform/core")
import type { DaemonConfig, PreflightReport, StackConfig } from "@alienplatform/core"

const image = { type: "image", image: "nginx" } as const
const bucket = new alien.Storage("bucket").publicRead(true).lifecycleRules([{ days: 30, prefix: "tmp/" }]).build()
const api: alien.Resource<DaemonConfig> = new alien.Daemon("api")
  .code({ type: "source", src: ".", toolchain: { type: "docker", buildArgs: { A: "b" } } })
  .command(["node", "main.js"])
  .cpu(0.5)
  .cpu({ min: "100m", desired: 1 })
  .memory("128Mi")
  .link(bucket)
  .link({ type: "kv", id: "cache" })
  .permissions("execution")
  .stopGracePeriodSeconds(5)
  .build()
const type: "daemon" = alien.Daemon.any()
const ref: { type: "daemon"; id: string } = api.ref()

const stack: StackConfig = new alien.Stack("s")
  .add(bucket, "frozen", { remoteAccess: true })
  .add(api, "live")
  .permissions({
    profiles: {
      execution: { "*": ["storage/data-read", { id: "x", description: "y", platforms: { aws: {} } }] },
    },
    management: { extend: { bucket: ["storage/management"] } },
  })
  .build()

const report: Promise<PreflightReport> = alien.preflight(stack, { platform: "local", signal: AbortSignal.timeout(1) })

const Quota = alien.defineError({
  code: "QUOTA",
  context: { parse: (input: unknown) => input as { limit: number } },
  message: ({ limit }) => `More than ${limit}`,
})
const error: alien.AlienError = new alien.AlienError(Quota.create({ limit: 3 })).withContext(Quota.create({ limit: 4 }))
const path: (string | number)[] | undefined = new alien.ValidationError({ message: "m" }).issues[0]?.path
const outputs: boolean = alien.getResourceOutputs({ resources: {} }, api).running

// @ts-expect-error an id is needed
new alien.Daemon()
// @ts-expect-error a misspelt type
new alien.Daemon("d").code({ type: "imgae", image: "nginx" })
// @ts-expect-error a misspelt key
new alien.Daemon("d").code({ type: "image", imgae: "nginx" })
// @ts-expect-error numbers are no strings
new alien.Daemon("d").environment({ PORT: 80 })
// @ts-expect-error what may be undefined is no string
new alien.Daemon("d").environment({ TOKEN: process.env["TOKEN"] })
// @ts-expect-error a command is an array
new alien.Daemon("d").command("node main.js")
// @ts-expect-error min alone
new alien.Daemon("d").cpu({ min: 1 })
// @ts-expect-error a builder is not a resource
new alien.Daemon("d").link(new alien.Storage("b"))
// @ts-expect-error daemons have no triggers
new alien.Daemon("d").trigger()
// @ts-expect-error a daemon that was not built
new alien.Stack("s").add(new alien.Daemon("d").code(image).permissions("p"), "live")
// @ts-expect-error a daemon is live only
new alien.Stack("s").add(api, "frozen")
// @ts-expect-error a platform of another world
new alien.Stack("s").platforms(["vercel"])
// @ts-expect-error no such set
new alien.Stack("s").permissions({ profiles: { p: { "*": ["storage/data-raed"] } } })
// @ts-expect-error profiles are required
new alien.Stack("s").permissions({})
// @ts-expect-error an unbuilt stack
alien.preflight(new alien.Stack("s"), { platform: "local" })
// @ts-expect-error a platform is required
alien.preflight(stack, {})
// @ts-expect-error the context is typed
Quota.create({ limits: 3 })

export = { type, ref, report, error, path, outputs }
