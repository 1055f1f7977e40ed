using Sandbox.Wasm.Worker.Control;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;
using Wasmtime;

// What this program does: serve SOCKET CACHE, compile IN OUT, measure IMAGE SAMPLES, probe, version. Started by the server (Sandbox.Isolation.Wasm), by the bench and by itself, never by people.
switch (args)
{
    case ["serve", var socket, var cache]:
        Directory.CreateDirectory(cache);
        ThreadPool.SetMinThreads(16, 16);
        new ControlSocket(socket, new ModuleStore(cache)).Run();
        return 0;

    case ["compile", var input, var output]:
        return Compiler.CompileHere(input, output);

    case ["probe"]:
        using (var module = Module.FromText(WasmEngine.Engine, "probe", "(module (func (export \"answer\") (result i32) i32.const 42))"))
        using (var store = new Store(WasmEngine.Engine))
        {
            store.SetEpochDeadline(1000);
            var answer = new Instance(store, module).GetFunction<int>("answer")!();
            Console.WriteLine(answer == 42 ? WasmEngine.Version : "it computes wrong");
            return answer == 42 ? 0 : 1;
        }

    case ["measure", var image, var samples] when int.TryParse(samples, out var count) && count is > 0 and <= 10_000:
        return BareWasmtime.Measure(image, count);

    case ["version"]:
        Console.WriteLine(WasmEngine.Version);
        return 0;

    default:
        Console.Error.WriteLine("usage: wasm-worker serve SOCKET CACHE | compile IN OUT | measure IMAGE SAMPLES | probe | version");
        return 2;
}
