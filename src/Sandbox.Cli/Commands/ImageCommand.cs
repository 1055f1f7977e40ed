using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Sandbox.Cli.Doctor;
using Sandbox.Cli.Terminal;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Server;
using Sandbox.Templates;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Guest images: build, list.</summary>
internal static class ImageCommand
{
    public static Command Create(Say say) => new("image", "Build and list guest images.") { Build(say), List(say) };

    /// <summary>Where the image store of this machine is, unless told otherwise.</summary>
    public static ImageStore Store(string? root) =>
        new(root ?? Settings().ImageRoot);

    private static ServerOptions Settings() => ServerSettings.Read(null, Environment.GetEnvironmentVariables(), new Dictionary<string, string>());

    private static Command Build(Say say)
    {
        var name = new Argument<string>("template") { Description = "Template", DefaultValueFactory = _ => "python" };
        var agent = new Option<string?>("--agent") { Description = "Folder of the published guest agent", HelpName = "DIR" };
        var worker = new Option<string?>("--worker") { Description = "Folder of the WebAssembly worker, for a template of that kind", HelpName = "DIR" };
        var definition = new Option<string?>("--definition") { Description = "Folder of the template's definition", HelpName = "DIR" };
        var images = new Option<string?>("--images") { Description = "Where images are kept", HelpName = "DIR" };
        var force = new Option<bool>("--force") { Description = "Build even if nothing changed, to take in Debian's updates" };
        var command = new DetailedCommand("build", "Build the image of a template, unless an image of the same contents exists.", """
              sandbox image build                          the template 'python'
              sandbox image build python --force           again, with Debian's updates
              sandbox image build wasm                     JavaScript and Python as WebAssembly

            It needs root, network access to a Debian mirror, and the programs that `sandbox doctor` lists; 'wasm' needs no more than npm's registry.
            """)
        { name, agent, worker, definition, images, force };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var template = parsed.GetValue(name)!;
            if (!ImageStore.IsTemplateName(template))
            {
                throw new UserException($"'{template}' is no template name: lower-case letters, digits and hyphens", ExitCodes.Usage);
            }

            var folder = parsed.GetValue(definition) ?? Find(Path.Combine("deploy", "templates", template)) ?? throw new UserException($"the definition of '{template}' was not found; name its folder with --definition");
            var loaded = TemplateDefinition.Load(folder);
            if (loaded.Kind == TemplateImage.WasmKind)
            {
                var workerFolder = parsed.GetValue(worker) ?? Path.Combine(AppContext.BaseDirectory, "wasm-worker");
                Tell(say, await WithProgressAsync(say, progress => new WasmTemplateBuilder(Store(parsed.GetValue(images))).BuildAsync(loaded, workerFolder, parsed.GetValue(force), progress, cancellationToken)));
                return ExitCodes.Success;
            }

            var agentFolder = parsed.GetValue(agent) ?? Find(Path.Combine(".build", "agent")) ?? throw new UserException(
                "the guest agent was not found; name its folder with --agent. It is built by: dotnet publish src/Sandbox.Guest.Agent -c Release -r linux-x64 -o .build/agent");
            var builder = new TemplateBuilder(Store(parsed.GetValue(images)));
            var result = await WithProgressAsync(say, progress => builder.BuildAsync(loaded, agentFolder, parsed.GetValue(force), progress, cancellationToken));
            Tell(say, result);
            await BuildGoldenAsync(say, result, parsed.GetValue(images), cancellationToken);
            return ExitCodes.Success;
        });
        return command;
    }

    private static void Tell(Say say, BuildResult result) => say.Note(result.Reused
        ? $"image {result.Image.Template} {result.Image.Version} is up to date"
        : string.Create(CultureInfo.InvariantCulture, $"image {result.Image.Template} {result.Image.Version} built in {result.Duration.TotalSeconds:0} s: {Sizes.Show(SizeOf(result.Directory))} in {result.Directory}"));

    /// <summary>A machine that cannot run microVMs can still build images: then the snapshot is made by the host that uses the image.</summary>
    private static async Task BuildGoldenAsync(Say say, BuildResult result, string? images, CancellationToken cancellationToken)
    {
        await using var backend = LocalBackend.Create(Settings() with { ImageRoot = Store(images).Root }, "image");
        try
        {
            if (await backend.FindGoldenAsync(result.Directory, result.Image.Sizes, cancellationToken) is { } known)
            {
                say.Note($"golden snapshot {known.Fingerprint} is up to date");
                return;
            }

            // What a build that was killed has left: its machine died with it, its directory and cgroup did not. The id of a machine ends with its maker's process id.
            await backend.ReapAsync(owner => Directory.Exists("/proc/" + owner.VmId.Split('-')[^1]), cancellationToken);
            say.Note("booting the image once for its golden snapshot");
            var clock = Stopwatch.StartNew();
            var golden = await backend.BuildGoldenAsync(result.Directory, result.Image.Sizes, cancellationToken);
            say.Note(string.Create(CultureInfo.InvariantCulture, $"golden snapshot {golden.Fingerprint} made in {clock.Elapsed.TotalSeconds:0} s: {Sizes.Show(golden.MemoryBytes)} of memory that clones share"));
        }
        catch (IsolationException e)
        {
            say.Note($"no golden snapshot was made, so sessions boot: {e.Message}");
        }
    }

    private static Command List(Say say)
    {
        var images = new Option<string?>("--images") { Description = "Where images are kept", HelpName = "DIR" };
        var json = new Option<bool>("--json") { Description = "For machines" };
        var command = new Command("ls", "List the images of this machine.") { images, json };
        command.SetAction(parsed =>
        {
            var store = Store(parsed.GetValue(images));
            var found = store.Templates.Select(t => store.FindCurrent(t)!).Select(d => (Directory: d, Image: TemplateImage.Load(d), Size: SizeOf(d))).ToList();
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(
                    found.Select(f => new { template = f.Image.Template, version = f.Image.Version, builtAt = f.Image.BuiltAt, kernel = f.Image.KernelRelease, sizeBytes = f.Size, directory = f.Directory }), JsonOutput.Options));
                return ExitCodes.Success;
            }

            var table = new Table().Border(TableBorder.Simple).AddColumns("template", "version", "built", "kernel", "size");
            foreach (var (_, image, size) in found)
            {
                table.AddRow(image.Template, image.Version, image.BuiltAt.ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture), image.KernelRelease, Sizes.Show(size));
            }

            if (found.Count == 0)
            {
                say.Note($"no images in {store.Root}; build one with: sandbox image build");
            }
            else
            {
                say.Output.Write(table);
            }

            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>A bar on a terminal; elsewhere a line for each step.</summary>
    private static async Task<BuildResult> WithProgressAsync(Say say, Func<IProgress<BuildProgress>, Task<BuildResult>> build)
    {
        if (!Say.IsInteractive)
        {
            var last = 0;
            return await build(new Reporter(p =>
            {
                if (p.Step != Interlocked.Exchange(ref last, p.Step))
                {
                    say.Note($"[{p.Step}/{p.Steps}] {p.Message}");
                }
            }));
        }

        return await say.Error.Progress().AutoClear(true).Columns(new SpinnerColumn(), new ProgressBarColumn(), new PercentageColumn(), new ElapsedTimeColumn(), new TaskDescriptionColumn { Alignment = Justify.Left })
            .StartAsync(async context =>
            {
                var task = context.AddTask("starting", maxValue: 1);
                return await build(new Reporter(p =>
                {
                    task.Value = p.Fraction;
                    task.Description = Markup.Escape(p.Message);
                }));
            });
    }

    /// <summary>Looks for a folder beside the program and upwards: a checkout, or an installed copy.</summary>
    private static string? Find(string relative)
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (Directory.Exists(Path.Combine(directory.FullName, relative)))
            {
                return Path.Combine(directory.FullName, relative);
            }
        }

        return Directory.Exists(relative) ? Path.GetFullPath(relative) : null;
    }

    private static long SizeOf(string directory) => new DirectoryInfo(directory).EnumerateFiles().Sum(f => f.Length);

    /// <summary>Unlike <see cref="Progress{T}"/> it reports in order, at once.</summary>
    private sealed class Reporter(Action<BuildProgress> report) : IProgress<BuildProgress>
    {
        public void Report(BuildProgress value) => report(value);
    }
}
