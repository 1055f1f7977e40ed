using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary><c>python</c> with arguments, as a program of its own.</summary>
internal sealed class PythonProgram(IReadOnlyList<string> arguments) : GuestProgram
{
    /// <summary>The variables that Python needs to find our scripts and to behave.</summary>
    public static Dictionary<string, string> Environment(IReadOnlyDictionary<string, string> more)
    {
        var environment = new Dictionary<string, string>(more, StringComparer.Ordinal);
        environment["PYTHONPATH"] = environment.TryGetValue("PYTHONPATH", out var path) && path.Length > 0 ? $"{Scripts.Directory}:{path}" : Scripts.Directory;
        environment.TryAdd("PYTHONDONTWRITEBYTECODE", "1");
        return environment;
    }

    public override GuestEnd Run(Surroundings around)
    {
        var module = around.Machine.Modules.OfImage(around.Machine.ImageDirectory, PythonPool.ModuleName);
        using var process = new WasiProcess(around.Run, Absolute(around.Directory), Environment(around.Environment));
        process.Add(new InputDescriptor(around.Input));
        process.Add(new OutputDescriptor(around.Output.On(OutputFd.Stdout)));
        process.Add(new OutputDescriptor(around.Output.On(OutputFd.Stderr)));

        // Python changes its directory (sitecustomize.py), so that its paths are absolute by the time they come here.
        process.Add(new DirectoryDescriptor(around.Machine.Volume, around.Machine.Volume.Root, "/"));
        process.Add(new DirectoryDescriptor(Scripts.Volume, Scripts.Volume.Root, Scripts.Directory));
        return RunStart(module, around, process);
    }

    /// <summary>The arguments, with the script's path made absolute: Python does that itself, before it has changed its directory.</summary>
    private List<string> Absolute(string directory)
    {
        List<string> result = ["python3", .. arguments.Skip(1)];
        for (var i = 1; i < result.Count; i++)
        {
            var argument = result[i];
            if (!argument.StartsWith('-'))
            {
                result[i] = Machine.WasmMachine.PathFrom(directory, argument);
                break;
            }

            if (argument is "-" or "--" || argument.StartsWith("-c", StringComparison.Ordinal) || argument.StartsWith("-m", StringComparison.Ordinal))
            {
                break;
            }

            i += argument is "-W" or "-X" or "--check-hash-based-pycs" ? 1 : 0;
        }

        return result;
    }
}
