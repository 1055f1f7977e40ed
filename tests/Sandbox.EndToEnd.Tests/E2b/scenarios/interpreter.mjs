// Code in contexts: state, languages, results, charts, errors, interrupts.
import assert from 'node:assert/strict'
import { Sandbox } from '@e2b/code-interpreter'

const sandbox = await Sandbox.create({ timeoutMs: 240_000 })
const run = (code, opts) => sandbox.runCode(code, opts)

await run('x = 41')
const sum = await run('import sys\nprint("out")\nprint("err", file=sys.stderr)\nx + 1')
assert.equal(sum.text, '42')
assert.deepEqual(sum.logs, { stdout: ['out\n'], stderr: ['err\n'] })
assert.ok(sum.executionCount >= 2)

const failed = await run('1/0')
assert.equal(failed.error.name, 'ZeroDivisionError')
assert.match(failed.error.value, /division by zero/)
assert.match(failed.error.traceback, /1\/0/)

const seen = []
await run('for i in range(3): print(i)', { onStdout: (m) => seen.push(m.line), onResult: () => seen.push('result') })
assert.equal(seen.join(''), '0\n1\n2\n')

const table = await run('import pandas as pd\npd.DataFrame({"a": [1, 2], "b": ["x", None]})')
assert.match(table.results[0].html, /<table/)
assert.deepEqual(table.results[0].data, { a: [1, 2], b: ['x', null] })

const plot = await run(`
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label='rise')
plt.title('Title'); plt.xlabel('across'); plt.ylabel('up')
plt.show()`)
assert.ok(plot.results[0].png.length > 1000)
assert.equal(plot.results[0].chart.type, 'line')
assert.equal(plot.results[0].chart.title, 'Title')
assert.deepEqual(plot.results[0].chart.elements[0].points, [[1, 4], [2, 5], [3, 6]])
const bars = await run("import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); None")
assert.equal(bars.results[0].chart.type, 'bar')
assert.deepEqual(bars.results[0].chart.elements.map((e) => e.value), [1, 2])

const shown = await run(`
from IPython.display import display, HTML, Markdown, JSON, Latex
display(HTML('<b>h</b>'), Markdown('*m*'), JSON({'j': 1}), Latex('$l$'))`)
const [html, markdown, json, latex] = shown.results
assert.deepEqual([html.html, markdown.markdown, json.json, latex.latex], ['<b>h</b>', '*m*', { j: 1 }, '$l$'])

// Contexts of their own, with a directory of their own.
const context = await sandbox.createCodeContext({ cwd: '/tmp', language: 'python' })
assert.equal((await run('import os; os.getcwd()', { context })).text, '/tmp')
assert.equal((await run('x', { context })).error.name, 'NameError')
await run('y = 1', { context })
await sandbox.restartCodeContext(context)
assert.equal((await run('y', { context })).error.name, 'NameError')
assert.ok((await sandbox.listCodeContexts()).some((c) => c.id === context.id))
await sandbox.removeCodeContext(context)
assert.ok(!(await sandbox.listCodeContexts()).some((c) => c.id === context.id))

assert.equal((await run('[1, 2].map((n) => n * 2)', { language: 'js' })).text.replace(/\s/g, ''), '[2,4]')
assert.match((await run('console.log("from node")', { language: 'javascript' })).logs.stdout.join(''), /from node/)
assert.match((await run('a=5; echo $((a + 1))', { language: 'bash' })).logs.stdout.join(''), /^6$/m)
assert.match((await run('import os; print(os.environ["ONCE"])', { envs: { ONCE: 'only now' } })).logs.stdout.join(''), /only now/)

// Over its time: an error of the SDK's, and the context is free again with its variables.
await assert.rejects(run('import time\ntime.sleep(1000)', { timeoutMs: 2000 }))
assert.equal((await run('x', { timeoutMs: 30_000 })).text, '41')

// Variables survive a pause.
await sandbox.pause()
const back = await Sandbox.connect(sandbox.sandboxId)
assert.equal((await back.runCode('x + 1')).text, '42')
await back.kill()
