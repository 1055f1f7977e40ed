// Sandboxes: create, look, list, time, pause, resume, fork, snapshot, kill.
import assert from 'node:assert/strict'
import { Sandbox, SandboxNotFoundError } from 'e2b'

const sandbox = await Sandbox.create({ metadata: { purpose: 'control test', odd: '1%2&3=4' }, timeoutMs: 60_000 })
assert.equal(await sandbox.isRunning(), true)

const info = await sandbox.getInfo()
assert.equal(info.sandboxId, sandbox.sandboxId)
assert.equal(info.templateId, 'base')
assert.deepEqual(info.metadata, { purpose: 'control test', odd: '1%2&3=4' })
assert.equal(info.state, 'running')
const left = info.endAt.getTime() - Date.now()
assert.ok(left > 30_000 && left <= 60_000, `${left} ms left`)

await sandbox.setTimeout(120_000)
assert.ok((await sandbox.getInfo()).endAt.getTime() - Date.now() > 100_000)

const [metric] = await sandbox.getMetrics()
assert.ok(metric.memTotal > metric.memUsed && metric.memUsed > 0 && metric.cpuCount >= 1 && metric.diskTotal > 0)

const found = async (query) => (await Sandbox.list({ query }).nextItems()).map((s) => s.sandboxId)
assert.deepEqual(await found({ metadata: { odd: '1%2&3=4' } }), [sandbox.sandboxId])
assert.deepEqual(await found({ metadata: { odd: 'other' } }), [])

assert.equal(await sandbox.pause(), true)
assert.equal(await sandbox.pause(), false)
assert.equal(await sandbox.isRunning(), false)
assert.equal((await sandbox.getInfo()).state, 'paused')
assert.deepEqual(await found({ state: ['paused'], metadata: { purpose: 'control test' } }), [sandbox.sandboxId])
assert.deepEqual(await sandbox.getMetrics(), [])
await Sandbox.connect(sandbox.sandboxId)
assert.equal(await sandbox.isRunning(), true)

const snapshot = await sandbox.createSnapshot({ name: 'control-test' })
assert.deepEqual(snapshot.names, ['control-test'])
const forks = await sandbox.fork({ count: 2 })
assert.ok(forks.every((f) => f instanceof Sandbox))
assert.equal(await sandbox.kill(), true)
assert.equal(await sandbox.kill(), false)

// A snapshot outlives its sandbox.
assert.deepEqual(await Sandbox.listSnapshots().nextItems(), [snapshot])
const again = await Sandbox.create('control-test', { metadata: { purpose: 'control test' }, timeoutMs: 30_000 })
assert.equal(await again.isRunning(), true)

// Pages: newest first, all of them, none twice.
const pages = []
for (const paginator = Sandbox.list({ limit: 2, query: { metadata: { purpose: 'control test' } } }); paginator.hasNext;) pages.push((await paginator.nextItems()).map((s) => s.sandboxId))
assert.deepEqual(pages.map((p) => p.length), [2, 1])
assert.equal(pages[0][0], again.sandboxId)
assert.equal(new Set(pages.flat()).size, 3)

for (const s of [again, ...forks]) assert.equal(await s.kill(), true)
assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId), true)
assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId), false)

// Time runs out: killed, or paused where that was asked for.
const killed = await Sandbox.create({ timeoutMs: 2000 })
const rested = await Sandbox.create({ timeoutMs: 2000, lifecycle: { onTimeout: 'pause' } })
const until = async (ask) => { for (let i = 0; i < 100; i++) { if (await ask()) return; await new Promise((r) => setTimeout(r, 200)) } assert.fail(`not in time: ${ask}`) }
await until(async () => { try { await killed.getInfo(); return false } catch (e) { assert.ok(e instanceof SandboxNotFoundError, e); return true } })
await until(async () => (await rested.getInfo()).state === 'paused')
await rested.kill()
