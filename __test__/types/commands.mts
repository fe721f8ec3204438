// Commands, typed from handler to caller, as they may be used and as they may not.
import { AlienError } from "@alienplatform/core"
import { CommandError, CommandsClient, command, createCommandReceiver, runReceiver } from "@alienplatform/core/commands"
import type { ByteStream, CommandPage, CommandReceiver, CommandView } from "@alienplatform/core/commands"
import { createReadStream } from "node:fs"
import { type } from "arktype"
import * as v from "valibot"
import { z } from "zod"

const commands = {
  sync: command("sync", async ({ since }: { since: string; full?: boolean }, { signal, deadline, attempt, progress }) => {
    progress({ at: since })
    return { rows: 3, at: new Date(), aborted: signal.aborted, deadline, again: attempt > 1 }
  }),
  ping: command("ping", () => "pong" as const),
  count: command("count-all", z.object({ from: z.coerce.number() }), async ({ from }) => [from satisfies number]),
  valibot: command("v", v.object({ list: v.array(v.string()) }), ({ list }) => list[0]?.length),
  arktype: command("a", type({ level: "'low' | 'high'" }), ({ level }, { input }) => ({ level: level satisfies "low" | "high", same: input.level })),
  restore: command.stream("restore", async (body, { size, signal }) => {
    let bytes = 0
    for await (const piece of body) bytes += (piece as Buffer).length
    return { bytes, all: bytes === size, aborted: signal.aborted }
  }),
  backup: command("backup", async ({ since }: { since: string }) => new Blob([since])),
  copy: command.stream("copy", (body) => body),
  nothing: command("nothing", async (_: { id: number }) => {}),
  // Modules export more than commands.
  helper: (text: string) => text,
}

const client = new CommandsClient({ managerUrl: "https://manager.example", deploymentId: "edge", token: "t", timeout: 1000 })
const target = client.target<typeof commands>("connector")

const synced: { rows: number; at: string; aborted: boolean; again: boolean; deadline?: string | undefined } = await target.invoke("sync", { since: "2026-05-01" })
const pong: "pong" = await target.invoke("ping")
const counted: number[] = await target.invoke("count-all", { from: "1" }, { timeoutMs: 1000, deadline: new Date(), idempotencyKey: "k", signal: AbortSignal.timeout(1) })
const length: number | null = await target.invoke("v", { list: [] })
const level: "low" | "high" = (await target.invoke("a", { level: "low" })).level
const nothing: null = await target.invoke("nothing", { id: 1 })
const restored: { bytes: number; all: boolean; aborted: boolean } = await target.invoke("restore", new Uint8Array(3))
for (const source of [Buffer.from("x"), new ArrayBuffer(1), new Blob(["x"]), createReadStream("/x"), new Blob(["x"]).stream()]) await target.submit("restore", source)
const backup: Buffer = await target.invoke("backup", { since: "x" }, { as: "bytes" })
const stream: ByteStream = await target.invoke("copy", createReadStream("/x"), { as: "stream", signal: AbortSignal.timeout(1) })
const bytes: number | undefined = stream.size
const raw: Buffer = await client.target("connector").invoke("whatever", 1, { as: "bytes" })
const { result } = await client.get("cmd_1", { as: "stream" })
const { commandId } = await target.submit("sync", { since: "2026-05-01", full: true }, { deadline: "2026-06-01T00:00:00Z" })
const view: CommandView = await client.get(commandId)
const page: CommandPage = await client.list({ state: "PENDING", target: "connector", limit: 10, cursor: "c" })
for await (const { state, progress } of client.watch(commandId, { pollInterval: 100 })) void [state, progress]
await client.cancel(commandId)
const any: { rows: number } = await client.target("connector").invoke<{ rows: number }>("whatever", [1], { pollInterval: 1, timeout: 1 })
const unknown: unknown = await client.invoke("whatever")

const receiver = createCommandReceiver({ concurrency: 8, handleSignals: false })
  .command("add", z.object({ a: z.number(), b: z.number() }), ({ a, b }) => a + b)
  .command("echo", (params: string) => params)
  .stream("size", (_, { size }) => size ?? -1)
const size: number = await client.target<typeof receiver>("calculator").invoke("size", new Blob([]))
const sum: number = await client.target<typeof receiver>("calculator").invoke("add", { a: 1, b: 2 })
await receiver.run()
await receiver.stop()
await runReceiver({ drainTimeoutMs: 1000, log: (line) => void line.length })
const plain: CommandReceiver = createCommandReceiver()

try {
  await target.invoke("ping")
} catch (error) {
  if (error instanceof CommandError) throw new AlienError(error)
  if (error instanceof CommandError) void [error.code satisfies string, error.context, error.retryable satisfies boolean]
}

// @ts-expect-error no such command
await target.invoke("snyc", { since: "x" })
// @ts-expect-error a helper is no command
await target.invoke("helper", "x")
// @ts-expect-error parameters are needed
await target.invoke("sync")
// @ts-expect-error of their type
await target.invoke("sync", { since: 1 })
// @ts-expect-error what the schema takes, not what it gives
await target.invoke("a", { level: "middle" })
// @ts-expect-error a Date is a text after its way
const date: Date = (await target.invoke("sync", { since: "x" })).at
// @ts-expect-error a handler gets what the schema gives
command("wrong", z.object({ from: z.string() }), ({ from }) => from satisfies number)
// @ts-expect-error no schema
command("wrong", { from: "string" }, () => 1)
// @ts-expect-error a stream's parameters are bytes
await target.invoke("restore", { since: "x" })
// @ts-expect-error bytes are no JSON
const json: string = await target.invoke("backup", { since: "x" })
// @ts-expect-error no such form
await target.invoke("ping", undefined, { as: "text" })
// @ts-expect-error a misspelt option
await target.invoke("ping", undefined, { timeoutMS: 1 })
// @ts-expect-error a token is needed
new CommandsClient({ managerUrl: "https://manager.example", deploymentId: "edge" })
// @ts-expect-error no such state
await client.list({ state: "DONE" })

export { synced, pong, counted, length, level, nothing, view, page, any, unknown, sum, plain, date, restored, backup, stream, bytes, raw, result, size, json }
