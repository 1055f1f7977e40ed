using System.Diagnostics;
using Sandbox.Wasm.Worker.Running;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Modules;

/// <summary>
/// Compiles modules in processes of their own, which end with it: the compiler takes seconds and hundreds of MiB for a large module, and a session's module is the most hostile input that it will see.
/// </summary>
internal static class Compiler
{
    /// <summary>A module that takes longer is given up.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

    /// <summary>Compilations at once: each uses every processor.</summary>
    private static readonly SemaphoreSlim Turn = new(2);

    /// <summary>Compiles in another process.</summary>
    /// <exception cref="ModuleException">It is no valid module, or takes too long.</exception>
    public static void Compile(byte[] bytes, string output, string name, CancellationToken cancellationToken)
    {
        Turn.Wait(cancellationToken);
        var input = output + "." + Guid.NewGuid().ToString("N") + ".in";
        try
        {
            if (File.Exists(output))
            {
                // Somebody else's turn came first, with the same module.
                return;
            }

            File.WriteAllBytes(input, bytes);
            Run(input, output, name, cancellationToken);
        }
        finally
        {
            File.Delete(input);
            Turn.Release();
        }
    }

    /// <summary>What that process does. Returns its exit code.</summary>
    public static int CompileHere(string input, string output)
    {
        try
        {
            // If the memory of all gives out, this is what is killed.
            File.WriteAllText("/proc/self/oom_score_adj", "1000");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }

        _ = Platform.Seccomp.Confine(serves: false);
        try
        {
            using var module = Module.FromBytes(WasmEngine.Engine, "module", File.ReadAllBytes(input));
            var partial = $"{output}.{Environment.ProcessId}.partial";
            File.WriteAllBytes(partial, module.Serialize());
            File.Move(partial, output, overwrite: true);
            return 0;
        }
        catch (Exception e) when (e is WasmtimeException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine(e.Message.Length > 2000 ? e.Message[..2000] : e.Message);
            return 1;
        }
    }

    private static void Run(string input, string output, string name, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardError = true, RedirectStandardOutput = true, RedirectStandardInput = true };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet")
        {
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "wasm-worker.dll"));
        }

        foreach (var argument in (string[])["compile", input, output])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start) ?? throw new ModuleException("The compiler could not be started.");
        process.StandardInput.Close();
        process.PriorityClass = ProcessPriorityClass.BelowNormal;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        try
        {
            var said = process.StandardError.ReadToEndAsync(deadline.Token);
            process.WaitForExitAsync(deadline.Token).GetAwaiter().GetResult();
            if (process.ExitCode != 0)
            {
                var text = said.GetAwaiter().GetResult().Trim();
                throw new ModuleException(process.ExitCode > 128 ? $"{name} could not be compiled: it needs more memory than there is." : $"{name} could not be compiled: {text}");
            }
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            process.WaitForExit();
            cancellationToken.ThrowIfCancellationRequested();
            throw new ModuleException($"{name} could not be compiled within {Deadline.TotalSeconds:0} s.");
        }
    }
}
