using System.Diagnostics;
using System.Runtime.InteropServices;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Templates;

/// <summary>
/// Builds the image of a template of WebAssembly modules: fetched from npm by hash, and compiled once, by the worker that will run them, in a process that ends with it. Same store, same atomicity as
/// <see cref="TemplateBuilder"/>; needs neither root nor Debian.
/// </summary>
public sealed class WasmTemplateBuilder(ImageStore store)
{
    private const UnixFileMode Readable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    /// <summary>Builds the template, unless a finished image of the same modules and the same Wasmtime is there.</summary>
    /// <param name="definition">What to build.</param>
    /// <param name="workerFolder">Where <c>wasm-worker.dll</c> is.</param>
    /// <param name="force">Build even if there is such an image.</param>
    /// <param name="progress">Told of each step.</param>
    /// <param name="cancellationToken">Stops the build and removes what it had made.</param>
    /// <exception cref="TemplateException">It cannot be built; the message says why and what to do.</exception>
    public async Task<BuildResult> BuildAsync(TemplateDefinition definition, string workerFolder, bool force, IProgress<BuildProgress>? progress, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(definition);
        var clock = Stopwatch.StartNew();
        var worker = Path.Combine(workerFolder, "wasm-worker.dll");
        if (!File.Exists(worker))
        {
            throw new TemplateException($"There is no wasm-worker.dll in {workerFolder}. Build it with: dotnet build src/Sandbox.Cli -c Release, or name its folder with --worker");
        }

        var folder = Path.GetDirectoryName(store.VersionDirectory(definition.Id, "x"))!;
        Directory.CreateDirectory(folder);
        var tools = new ToolRunner(Path.Combine(folder, "build.log"));
        var runtime = (await tools.RunAsync(folder, null, cancellationToken, Dotnet, worker, "version")).Trim();
        var version = ContentHash.With("wasmtime " + runtime, definition.Folder);
        var target = store.VersionDirectory(definition.Id, version);
        var steps = (definition.Modules.Count * 2) + 1;
        using var alone = await ExclusiveFile.AcquireAsync(
            Path.Combine(folder, ".lock"), () => progress?.Report(new BuildProgress(1, steps, "waiting for another build of this template", 0)), cancellationToken);
        if (!force && File.Exists(Path.Combine(target, TemplateImage.FileName)))
        {
            store.SetCurrent(definition.Id, version);
            return new BuildResult(target, TemplateImage.Load(target), true, clock.Elapsed);
        }

        var work = Path.Combine(folder, $".building-{version}");
        RemoveTree(work);
        Directory.CreateDirectory(work);
        try
        {
            var image = await BuildInAsync(work, definition, worker, version, runtime, tools, progress, cancellationToken);
            RemoveTree(target);
            Directory.Move(work, target);
            store.SetCurrent(definition.Id, version);
            return new BuildResult(target, image, false, clock.Elapsed);
        }
        finally
        {
            RemoveTree(work);
        }
    }

    /// <summary>The host program of the runtime that runs this one.</summary>
    private static string Dotnet => Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));

    private static async Task<TemplateImage> BuildInAsync(
        string work, TemplateDefinition definition, string worker, string version, string runtime, ToolRunner tools, IProgress<BuildProgress>? progress, CancellationToken cancellationToken)
    {
        var npm = await NpmPackages.ForThisHostAsync(cancellationToken);
        var steps = (definition.Modules.Count * 2) + 1;
        var step = 0;
        foreach (var module in definition.Modules)
        {
            progress?.Report(new BuildProgress(++step, steps, $"fetching {module.Package} {module.Version}", (step - 1.0) / steps));
            var source = Path.Combine(work, module.Name + ".wasm");
            await npm.FetchAsync(
                module,
                new Dictionary<string, string>(StringComparer.Ordinal) { [module.File] = source, [module.License] = Path.Combine(work, module.Name + ".LICENSE") },
                cancellationToken);
            progress?.Report(new BuildProgress(++step, steps, $"compiling {module.Name}", (step - 1.0) / steps));

            // The module itself stays: a host with another processor compiles it again.
            await tools.RunAsync(work, null, cancellationToken, Dotnet, worker, "compile", source, Path.Combine(work, module.Name + ".cwasm"));
        }

        progress?.Report(new BuildProgress(steps, steps, "finishing", (steps - 1.0) / steps));
        var manifest = new TemplateImage
        {
            Template = definition.Id,
            Version = version,
            Kind = TemplateImage.WasmKind,
            BuiltAt = DateTimeOffset.UtcNow,
            KernelRelease = "wasmtime-" + runtime,
            Sizes = definition.Sizes,
            Languages = definition.Languages,
        };
        manifest.Save(work);
        foreach (var file in Directory.EnumerateFiles(work))
        {
            // An unprivileged worker reads them.
            File.SetUnixFileMode(file, Readable);
        }

        return manifest;
    }

    private static void RemoveTree(string directory)
    {
        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
