// Readers that are slow, and clients that vanish: neither harms the command, the sandbox or anybody else.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { Sandbox } from 'e2b'

if (process.argv[2]) {
  // The client that vanishes: begins a command, says its pid, and is killed by its parent.
  const mine = await Sandbox.connect(process.argv[2])
  const command = await mine.commands.run('for i in $(seq 1 30); do echo $i; sleep 0.1; done', { background: true })
  console.log(command.pid)
  await command.wait()
}

const sandbox = await Sandbox.create({ timeoutMs: 240_000 })
const client = spawn(process.execPath, [process.argv[1], sandbox.sandboxId], { stdio: ['ignore', 'pipe', 'inherit'] })
const pid = Number(await new Promise((resolve) => client.stdout.once('data', (d) => resolve(String(d)))))
assert.ok(pid > 0)
client.kill('SIGKILL')
const found = await sandbox.commands.connect(pid)
assert.equal((await found.wait()).stdout, Array.from({ length: 30 }, (_, i) => `${i + 1}\n`).join(''))

// Eight megabytes for somebody who takes his time; others are served meanwhile.
let length = 0
const slow = sandbox.commands.run("head -c 8000000 /dev/zero | tr '\\0' x", {
  timeoutMs: 120_000,
  onStdout: async (data) => { length += data.length; await new Promise((r) => setTimeout(r, 20)) },
})
for (let i = 0; i < 5; i++) assert.equal((await sandbox.commands.run(`echo ${i}`)).stdout, `${i}\n`)
assert.equal((await slow).stdout.length, 8_000_000)
assert.equal(length, 8_000_000)
await sandbox.kill()
