// A server that is restarted in mid-stream: the command is found again by its pid, and none of its output is lost. Driven from outside over stdin and stdout.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { Sandbox } from 'e2b'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const sandbox = await Sandbox.create({ timeoutMs: 240_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
let seen = ''
const command = await sandbox.commands.run('for i in $(seq 1 60); do echo $i; sleep 0.1; done', { background: true, onStdout: (d) => { seen += d } })
const ended = command.wait().then(() => 'ended', (e) => e.constructor.name)
while (!seen.includes('3\n')) await new Promise((r) => setTimeout(r, 50))
console.log('running')
assert.equal((await lines.next()).value, 'restarted')
assert.notEqual(await ended, 'ended')

const again = await Sandbox.connect(sandbox.sandboxId)
const found = await again.commands.connect(command.pid)
assert.equal((await found.wait()).stdout, Array.from({ length: 60 }, (_, i) => `${i + 1}\n`).join(''))
await again.kill()
process.exit(0)
