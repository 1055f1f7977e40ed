using System.Diagnostics;
using System.Globalization;
using System.Text;
using Sandbox.Wasm.Worker.Modules;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Running;

/// <summary>
/// Wasmtime and nothing of ours around it, for the bench to compare with: a store without limits, its own WASI without files, and what else a module imports as functions that answer nothing. The module is loaded once beforehand, as the
/// worker's are. Here, because this is the one program that has Wasmtime.
/// </summary>
internal static class BareWasmtime
{
    private const string ModuleName = "quickjs";
    private const int WarmUp = 30;
    private const string Source = "'o' + 'k'";

    /// <summary>Prints a line for each sample, in microseconds: a new store up to the first value of a script in it, and one more script in the same.</summary>
    /// <param name="image">Directory of an image of WebAssembly.</param>
    /// <param name="samples">How many. Some go before them and are not counted: .NET compiles what it runs often anew.</param>
    /// <returns>The program's exit code.</returns>
    public static int Measure(string image, int samples)
    {
        var cache = Directory.CreateTempSubdirectory("wasm-measure-").FullName;
        try
        {
            using var module = new ModuleStore(cache).OfImage(image, ModuleName);
            using var linker = new Linker(WasmEngine.Engine);
            linker.DefineWasi();
            linker.DefineFunction("env", "host_call", (int _, int _, int _, int _, int _) => 0);
            linker.DefineFunction("env", "host_interrupt", () => 0);
            linker.DefineFunction("env", "host_promise_rejection", (int _, int _, int _) => { });
            foreach (var name in (string[])["host_module_normalize", "host_module_load", "host_get_timezone_offset"])
            {
                linker.DefineFunction("env", name, (int _, int _) => 0);
            }

            for (var i = -WarmUp; i < samples; i++)
            {
                var (cold, more) = Once(module, linker);
                if (i >= 0)
                {
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{cold.TotalMicroseconds:0.0} {more.TotalMicroseconds:0.0}"));
                }
            }

            return 0;
        }
        catch (Exception e) when (e is WasmtimeException or ModuleException or IOException or InvalidDataException)
        {
            Console.Error.WriteLine(e.Message);
            return 1;
        }
        finally
        {
            Directory.Delete(cache, recursive: true);
        }
    }

    private static (TimeSpan Cold, TimeSpan More) Once(Module module, Linker linker)
    {
        var began = Stopwatch.GetTimestamp();
        using var store = new Store(WasmEngine.Engine);
        store.SetWasiConfiguration(new WasiConfiguration());
        store.SetEpochDeadline(1UL << 40);
        var instance = linker.Instantiate(store, module);
        instance.GetAction("_initialize")?.Invoke();
        if (instance.GetFunction<int>("qjs_init")!() != 0)
        {
            throw new InvalidDataException($"{ModuleName} does not start bare");
        }

        Evaluate(instance);
        var cold = Stopwatch.GetElapsedTime(began);
        began = Stopwatch.GetTimestamp();
        Evaluate(instance);
        return (cold, Stopwatch.GetElapsedTime(began));
    }

    private static void Evaluate(Instance instance)
    {
        var memory = instance.GetMemory("memory")!;
        var allocate = instance.GetFunction<int, int>("wasm_malloc")!;
        int Put(string text)
        {
            var at = allocate(text.Length + 1);
            var span = memory.GetSpan((uint)at, text.Length + 1);
            Encoding.ASCII.GetBytes(text, span);
            span[^1] = 0;
            return at;
        }

        var value = instance.GetFunction<int, int, int, int, int>("qjs_eval")!(Put(Source), Source.Length, Put("bare"), 0);
        var length = allocate(4);
        var text = instance.GetFunction<int, int, int>("qjs_get_string_len")!(value, length);
        if (text == 0 || Encoding.ASCII.GetString(memory.GetSpan((uint)text, memory.ReadInt32((uint)length))) != "ok")
        {
            throw new InvalidDataException($"{ModuleName} computes something else bare");
        }
    }
}
