using System.Diagnostics;
using System.Text.Json;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Templates;

/// <summary>How far a build is.</summary>
/// <param name="Step">Number of the step, from 1.</param>
/// <param name="Steps">How many there are.</param>
/// <param name="Message">What is being done.</param>
/// <param name="Fraction">How much of the whole is done, 0 to 1; an estimate.</param>
public sealed record BuildProgress(int Step, int Steps, string Message, double Fraction);

/// <summary>What came of a build.</summary>
/// <param name="Directory">The image directory.</param>
/// <param name="Image">Its manifest.</param>
/// <param name="Reused">Nothing had to be built.</param>
/// <param name="Duration">How long it took.</param>
public sealed record BuildResult(string Directory, TemplateImage Image, bool Reused, TimeSpan Duration);

/// <summary>
/// Builds the image of a template: Debian's cloud kernel, an initial RAM file system of our own, and a read-only root made by mmdebstrap with the guest
/// agent in it. An image is built beside its place and moved there whole; an interrupted build leaves nothing that looks finished.
/// </summary>
public sealed class TemplateBuilder(ImageStore store)
{
    private const int Steps = 5;

    /// <summary>Builds the template, unless a finished image of the same contents is there.</summary>
    /// <param name="definition">What to build.</param>
    /// <param name="agentFolder">Published guest agent: the program <c>agent</c> and its <c>kernels</c>.</param>
    /// <param name="force">Build even if an image of the same contents exists (to take in Debian's updates).</param>
    /// <param name="progress">Told of each step.</param>
    /// <param name="cancellationToken">Stops the build and removes what it had made.</param>
    /// <exception cref="TemplateException">It cannot be built; the message says why and what to do.</exception>
    public async Task<BuildResult> BuildAsync(
        TemplateDefinition definition, string agentFolder, bool force, IProgress<BuildProgress>? progress, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(definition);
        var clock = Stopwatch.StartNew();
        if (!File.Exists(Path.Combine(agentFolder, "agent")))
        {
            throw new TemplateException($"There is no guest agent in {agentFolder}. Build it with: dotnet publish src/Sandbox.Guest.Agent -c Release -r linux-x64 -o {agentFolder}");
        }

        var version = ContentHash.Of(definition.Folder, definition.InitramfsFolder, agentFolder);
        var target = store.VersionDirectory(definition.Id, version);
        if (!force && File.Exists(Path.Combine(target, TemplateImage.FileName)))
        {
            store.SetCurrent(definition.Id, version);
            return new BuildResult(target, TemplateImage.Load(target), true, clock.Elapsed);
        }

        Check();
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        using var alone = await ExclusiveFile.AcquireAsync(
            Path.Combine(Path.GetDirectoryName(target)!, ".lock"),
            () => progress?.Report(new BuildProgress(1, Steps, "waiting for another build of this template", 0)),
            cancellationToken);
        if (!force && File.Exists(Path.Combine(target, TemplateImage.FileName)))
        {
            store.SetCurrent(definition.Id, version);
            return new BuildResult(target, TemplateImage.Load(target), true, clock.Elapsed);
        }

        var work = Path.Combine(Path.GetDirectoryName(target)!, $".building-{version}");
        RemoveTree(work);
        Directory.CreateDirectory(Path.Combine(work, "image"));
        var tools = new ToolRunner(Path.Combine(Path.GetDirectoryName(target)!, "build.log"));
        try
        {
            var image = await BuildInAsync(work, definition, agentFolder, version, tools, progress, cancellationToken);
            RemoveTree(target);
            Directory.Move(Path.Combine(work, "image"), target);
            store.SetCurrent(definition.Id, version);
            return new BuildResult(target, image, false, clock.Elapsed);
        }
        finally
        {
            RemoveTree(work);
        }
    }

    private static async Task<TemplateImage> BuildInAsync(
        string work, TemplateDefinition definition, string agentFolder, string version, ToolRunner tools, IProgress<BuildProgress>? progress, CancellationToken cancellationToken)
    {
        var image = Path.Combine(work, "image");
        progress?.Report(new BuildProgress(1, Steps, "fetching Debian's cloud kernel", 0.0));
        var (release, modules) = await FetchKernelAsync(work, image, tools, cancellationToken);

        progress?.Report(new BuildProgress(2, Steps, "making the initial RAM file system", 0.06));
        await MakeInitramfsAsync(work, image, definition, modules, tools, cancellationToken);

        progress?.Report(new BuildProgress(3, Steps, $"installing {definition.Packages.Count} packages and what they need", 0.08));
        var root = Path.Combine(work, "root");
        await InstallAsync(root, work, definition, tools, progress, cancellationToken);

        progress?.Report(new BuildProgress(4, Steps, "adding the guest agent", 0.84));
        await tools.RunAsync(work, null, cancellationToken, "cp", "-r", agentFolder + "/.", Path.Combine(root, "usr/lib/sandbox"));
        await tools.RunAsync(work, null, cancellationToken, "chown", "-R", "0:0", Path.Combine(root, "usr/lib/sandbox"));

        await AddNodePackagesAsync(root, definition, cancellationToken);

        progress?.Report(new BuildProgress(5, Steps, "compressing the root file system", 0.86));

        // Times of files are kept: Python takes a compiled module only if it bears the time of its source.
        await tools.RunAsync(work, null, cancellationToken, "mkfs.erofs", "-zlz4", Path.Combine(image, "root.erofs"), root);

        var manifest = new TemplateImage
        {
            Template = definition.Id,
            Version = version,
            BuiltAt = DateTimeOffset.UtcNow,
            KernelRelease = release,
            Sizes = definition.Sizes,
            Languages = definition.Languages,
        };
        manifest.Save(image);
        foreach (var file in Directory.EnumerateFiles(image))
        {
            // An unprivileged virtual machine monitor reads them.
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }

        return manifest;
    }

    private static async Task<(string Release, KernelModules Modules)> FetchKernelAsync(string work, string image, ToolRunner tools, CancellationToken cancellationToken)
    {
        var package = await FindKernelPackageAsync(work, tools, cancellationToken);
        var folder = Path.Combine(work, "kernel");
        Directory.CreateDirectory(folder);
        await tools.RunAsync(folder, null, cancellationToken, "apt-get", "-o", "APT::Sandbox::User=root", "download", package);
        var deb = Directory.GetFiles(folder, "*.deb").Single();
        await tools.RunAsync(folder, null, cancellationToken, "dpkg-deb", "-x", deb, folder);
        var kernel = Directory.GetFiles(Path.Combine(folder, "boot"), "vmlinuz-*").Single();
        var release = Path.GetFileName(kernel)["vmlinuz-".Length..];
        File.Copy(kernel, Path.Combine(image, "vmlinuz"));
        return (release, new KernelModules(Path.Combine(folder, "lib/modules", release)));
    }

    /// <summary>linux-image-cloud-amd64 only names the kernel of the day; that one is what must be fetched.</summary>
    private static async Task<string> FindKernelPackageAsync(string work, ToolRunner tools, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                var answer = await tools.RunAsync(work, null, cancellationToken, "apt-cache", "depends", "linux-image-cloud-amd64");
                if (answer.Split('\n').Select(l => l.Trim()).FirstOrDefault(l => l.StartsWith("Depends: linux-image-", StringComparison.Ordinal)) is { } line)
                {
                    return line["Depends: ".Length..];
                }
            }
            catch (TemplateException) when (attempt == 1)
            {
                // apt has no list yet.
            }

            if (attempt == 2)
            {
                throw new TemplateException("apt knows no package linux-image-cloud-amd64; the host must be Debian on amd64 with its main archive configured.");
            }

            await tools.RunAsync(work, null, cancellationToken, "apt-get", "update");
        }
    }

    private static async Task MakeInitramfsAsync(
        string work, string image, TemplateDefinition definition, KernelModules modules, ToolRunner tools, CancellationToken cancellationToken)
    {
        var folder = Path.Combine(work, "initramfs");
        foreach (var directory in (string[])["bin", "proc", "sys", "dev", "modules", "lower", "data", "newroot"])
        {
            Directory.CreateDirectory(Path.Combine(folder, directory));
        }

        File.Copy(HostTools.Find("busybox")!, Path.Combine(folder, "bin/busybox"));
        File.Copy(Path.Combine(definition.InitramfsFolder, "init"), Path.Combine(folder, "init"));
        const UnixFileMode Executable = UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
        File.SetUnixFileMode(Path.Combine(folder, "bin/busybox"), Executable);
        File.SetUnixFileMode(Path.Combine(folder, "init"), Executable);

        // A second list is loaded only where the host's monitor has the device: init goes by the kernel command line.
        var always = modules.InLoadOrder(NamesIn(definition, "modules"));
        var vsock = modules.InLoadOrder(NamesIn(definition, "modules-vsock")).Except(always, StringComparer.Ordinal).ToList();
        foreach (var module in always.Concat(vsock))
        {
            File.Copy(module, Path.Combine(folder, "modules", Path.GetFileName(module)));
        }

        await File.WriteAllLinesAsync(Path.Combine(folder, "modules/order"), always.Select(m => Path.GetFileName(m)!), cancellationToken);
        await File.WriteAllLinesAsync(Path.Combine(folder, "modules/order-vsock"), vsock.Select(m => Path.GetFileName(m)!), cancellationToken);

        // Not compressed: an emulated CPU unpacks slower than the host copies.
        await tools.RunAsync(
            folder, null, cancellationToken, "sh", "-c", "find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=+0:+0 --reproducible --quiet >\"$1\"", "sh", Path.Combine(image, "initramfs.img"));
    }

    private static IEnumerable<string> NamesIn(TemplateDefinition definition, string list) =>
        File.ReadLines(Path.Combine(definition.InitramfsFolder, list)).Select(l => l.Trim()).Where(l => l.Length > 0 && l[0] != '#');

    private static async Task InstallAsync(
        string root, string work, TemplateDefinition definition, ToolRunner tools, IProgress<BuildProgress>? progress, CancellationToken cancellationToken)
    {
        List<string> command =
        [
            "mmdebstrap", "--mode=root", "--variant=minbase", "--aptopt=Apt::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--include=" + string.Join(',', definition.Packages),
        ];
        var customize = Path.Combine(definition.Folder, "customize");
        if (File.Exists(customize))
        {
            command.Add($"--customize-hook='{customize}' \"$1\"");
        }

        command.AddRange([definition.Suite, root]);

        // apt says "Unpacking X" and "Setting up X" for each package; about 170 of each for the Python template.
        var lines = 0;
        await tools.RunAsync(
            work,
            line =>
            {
                if (line.StartsWith("Unpacking ", StringComparison.Ordinal) || line.StartsWith("Setting up ", StringComparison.Ordinal) || line.StartsWith("I: ", StringComparison.Ordinal))
                {
                    lines++;
                    progress?.Report(new BuildProgress(3, Steps, line.Length > 60 ? line[..60] : line, 0.08 + (0.75 * (1 - Math.Exp(-lines / 150.0)))));
                }
            },
            cancellationToken,
            [.. command]);
    }

    private static async Task AddNodePackagesAsync(string root, TemplateDefinition definition, CancellationToken cancellationToken)
    {
        var npm = definition.NodePackages.Count > 0 ? await NpmPackages.ForThisHostAsync(cancellationToken) : null;
        foreach (var package in definition.NodePackages)
        {
            var folder = Path.Combine(root, "usr/lib/node_modules", package.Package);
            await npm!.InstallAsync(package, folder, cancellationToken);
            using var manifest = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder, "package.json"), cancellationToken));
            foreach (var program in manifest.RootElement.TryGetProperty("bin", out var bin) && bin.ValueKind == JsonValueKind.Object ? bin.EnumerateObject() : default)
            {
                var target = Path.GetFullPath(Path.Combine(folder, program.Value.GetString()!));
                var link = Path.Combine(root, "usr/bin", Path.GetFileName(program.Name));
                File.SetUnixFileMode(target, File.GetUnixFileMode(target) | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute);
                File.Delete(link);
                File.CreateSymbolicLink(link, Path.GetRelativePath(Path.GetDirectoryName(link)!, target));
            }
        }
    }

    private static void Check()
    {
        if (HostTools.Missing() is { Count: > 0 } missing)
        {
            throw new TemplateException($"Building an image needs {string.Join(", ", missing)}. Install with: apt-get install {string.Join(' ', missing.Select(m => HostTools.Packages[m]).Distinct())}");
        }

        if (!Environment.IsPrivilegedProcess)
        {
            throw new TemplateException("Building an image needs root (it makes files of many owners). Run it as root or through sudo.");
        }
    }

    private static void RemoveTree(string directory)
    {
        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
