using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Sandbox.Cli.Terminal;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Oci;
using Sandbox.Isolation.Wasm;
using Sandbox.Server;
using Sandbox.Templates;

namespace Sandbox.Cli.Doctor;

/// <summary>Looks at this machine the way the server will, and where it can by trying.</summary>
internal sealed class Diagnosis(ServerOptions options)
{
    private const long LowDisk = 5L << 30;

    /// <summary>Programs that running microVMs needs; those that building images needs are <see cref="HostTools"/>'.</summary>
    private static readonly (string Program, string Package, bool Needed)[] RuntimeTools =
    [
        ("qemu-system-x86_64", "qemu-system-x86", true),
        ("qemu-img", "qemu-utils", false),
        ("mkfs.ext4", "e2fsprogs", true),
        ("setpriv", "util-linux", true),
    ];

    public async Task<IReadOnlyList<Finding>> RunAsync(bool probe, CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        findings.AddRange(Machine());
        findings.AddRange(Cgroups());
        findings.AddRange(await ToolsAsync(cancellationToken));
        findings.AddRange(Storage());
        var images = Images();
        findings.AddRange(images);
        findings.AddRange(await BackendAsync(probe, cancellationToken));
        findings.AddRange(await FirecrackerFindings.LookAsync(options, probe, cancellationToken));
        findings.AddRange(await WasmAsync(probe, cancellationToken));
        findings.AddRange(DeviceFindings.Look(options.Devices));
        return findings;
    }

    private static IEnumerable<Finding> Machine()
    {
        yield return new Finding("machine", "system", Verdict.Fact, $"{Release()}, kernel {Environment.OSVersion.Version}, {RuntimeInformation.OSArchitecture}");
        if (RuntimeInformation.OSArchitecture != Architecture.X64)
        {
            yield return new Finding("machine", "architecture", Verdict.Bad, $"{RuntimeInformation.OSArchitecture}: images and machines are made for x86-64", "use an x86-64 machine");
        }

        var cpu = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "unknown";
        var flags = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal)) ?? "";
        yield return new Finding("machine", "processor", Verdict.Fact, $"{Environment.ProcessorCount} × {cpu}{(flags.Contains(" vmx", StringComparison.Ordinal) ? ", VT-x" : flags.Contains(" svm", StringComparison.Ordinal) ? ", AMD-V" : ", no virtualisation flags")}");
        yield return new Finding("machine", "memory", Verdict.Fact, $"{Sizes.Show(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes)} for this process");
        yield return new Finding("machine", ".NET", Verdict.Fact, RuntimeInformation.FrameworkDescription);
        yield return Environment.IsPrivilegedProcess
            ? new Finding("machine", "privileges", Verdict.Good, "root: every microVM gets a user of its own and limits of its own")
            : new Finding("machine", "privileges", Verdict.Warning, "not root: microVMs share this user, and the kernel may refuse cgroup limits", "run the server as root; it gives the microVMs unprivileged users itself");
    }

    private static IEnumerable<Finding> Cgroups()
    {
        var cgroups = new CgroupTree("doctor");
        yield return cgroups.Problem is null
            ? new Finding("limits", "cgroups", Verdict.Good, $"version {cgroups.Version}, writable: memory, CPU and process limits hold")
            : new Finding("limits", "cgroups", Verdict.Warning, $"version {cgroups.Version}: {cgroups.Problem}", "run as root, or delegate a cgroup with the controllers memory, cpu and pids");
    }

    private static async Task<IReadOnlyList<Finding>> ToolsAsync(CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        foreach (var (program, package, needed) in RuntimeTools)
        {
            findings.Add(HostTools.Find(program) is { } path
                ? new Finding("tools", program, Verdict.Good, await VersionAsync(path, cancellationToken))
                : new Finding("tools", program, needed ? Verdict.Bad : Verdict.Warning, "missing", $"apt-get install {package}"));
        }

        var missing = HostTools.Missing();
        findings.Add(missing.Count == 0
            ? new Finding("tools", "image build", Verdict.Good, $"all there: {string.Join(", ", HostTools.Packages.Keys)}")
            : new Finding("tools", "image build", Verdict.Warning, $"missing: {string.Join(", ", missing)}; only building images needs them", $"apt-get install {string.Join(' ', missing.Select(m => HostTools.Packages[m]).Distinct())}"));
        return findings;
    }

    private IEnumerable<Finding> Storage()
    {
        foreach (var (name, directory) in new[] { ("data", options.DataDirectory), ("images", options.ImageRoot) })
        {
            var existing = directory;
            while (!Directory.Exists(existing))
            {
                existing = Path.GetDirectoryName(existing) ?? "/";
            }

            var free = new DriveInfo(existing).AvailableFreeSpace;
            yield return free < LowDisk
                ? new Finding("storage", name, Verdict.Warning, $"{directory}: {Sizes.Show(free)} free", "free some space: disks of sessions are sparse and grow")
                : new Finding("storage", name, Verdict.Good, $"{directory}: {Sizes.Show(free)} free");
        }
    }

    private List<Finding> Images()
    {
        var store = new ImageStore(options.ImageRoot);
        var findings = new List<Finding>();
        foreach (var template in store.Templates)
        {
            try
            {
                var image = TemplateImage.Load(store.FindCurrent(template)!);
                findings.Add(new Finding("images", template, Verdict.Good, $"version {image.Version}, kernel {image.KernelRelease}, built {image.BuiltAt.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)}"));
            }
            catch (InvalidDataException e)
            {
                findings.Add(new Finding("images", template, Verdict.Bad, e.Message, $"sandbox image build {template} --force"));
            }
        }

        return findings.Count > 0 ? findings : [new Finding("images", "templates", Verdict.Bad, $"none in {options.ImageRoot}", "sandbox image build (or ./scripts/run, which does it)")];
    }

    private async Task<IReadOnlyList<Finding>> BackendAsync(bool probe, CancellationToken cancellationToken)
    {
        var kvm = File.Exists("/dev/kvm") ? "/dev/kvm exists" : "there is no /dev/kvm";
        if (!probe)
        {
            return [new Finding("isolation", "qemu", Verdict.Fact, $"{kvm}; not tried (--no-probe)")];
        }

        await using var backend = LocalBackend.Create(options, "doctor");
        var verdict = await backend.ProbeAsync(cancellationToken);
        var findings = new List<Finding>
        {
            new("isolation", "qemu", verdict.Usable ? Verdict.Good : Verdict.Bad, $"{verdict.Accelerator} {verdict.Version}: {verdict.Reason} ({kvm})", verdict.Usable ? null : "see the tools and images above"),
        };
        if (backend.Capabilities.Network)
        {
            findings.Add(new Finding("isolation", "network", Verdict.Good, "a microVM's network could be made: a namespace of its own, behind nftables"));
        }

        findings.AddRange(verdict.Warnings.Select(w => new Finding("isolation", verdict.Accelerator.Length > 0 ? verdict.Accelerator : "qemu", Verdict.Warning, w)));
        findings.AddRange(await ContainersAsync("oci", OciTier.HostKernel, cancellationToken));
        findings.AddRange(await ContainersAsync("gvisor", OciTier.Gvisor, cancellationToken));
        if (verdict.Accelerator != "kvm")
        {
            findings.Add(new Finding("isolation", "KVM", Verdict.Warning, "not verified on hardware: this machine boots no guest under KVM, so start times and limits were never measured with it", "use a machine (or a VM with nested virtualisation) whose /dev/kvm boots a stock Linux guest"));
        }

        return findings;
    }

    private async Task<IReadOnlyList<Finding>> ContainersAsync(string name, OciTier tier, CancellationToken cancellationToken)
    {
        if (!options.Backends.Contains(name))
        {
            return [];
        }

        await using var backend = LocalBackend.CreateContainers(options, tier, "doctor");
        var verdict = await backend.ProbeAsync(cancellationToken);
        return
        [
            new Finding("isolation", name, verdict.Usable ? Verdict.Good : Verdict.Warning, verdict.Usable ? $"{verdict.Version}: {verdict.Reason}" : verdict.Reason, verdict.Usable ? null : "sessions that ask for this backend are refused here; other backends do without it"),
            .. verdict.Warnings.Select(w => new Finding("isolation", verdict.Accelerator, Verdict.Warning, w)),
        ];
    }

    private async Task<IReadOnlyList<Finding>> WasmAsync(bool probe, CancellationToken cancellationToken)
    {
        if (!probe || !options.Backends.Contains(WasmBackend.BackendName))
        {
            return [];
        }

        await using var backend = LocalBackend.CreateWasm(options, "doctor");
        var verdict = await backend.ProbeAsync(cancellationToken);

        // A host that runs no WebAssembly is still a host.
        var findings = new List<Finding> { new("isolation", "wasm", verdict.Usable ? Verdict.Good : Verdict.Warning, $"{verdict.Version}: {verdict.Reason}".TrimStart(':', ' '), verdict.Usable ? null : "sandbox image build wasm needs the worker too") };
        findings.AddRange(verdict.Warnings.Select(w => new Finding("isolation", "wasm", Verdict.Warning, w)));
        return findings;
    }

    private static async Task<string> VersionAsync(string path, CancellationToken cancellationToken)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(path, Path.GetFileName(path).StartsWith("mkfs", StringComparison.Ordinal) ? "-V" : "--version")
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                RedirectStandardInput = true,
            })!;
            process.StandardInput.Close();
            var both = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(cancellationToken), process.StandardError.ReadToEndAsync(cancellationToken));
            return $"{both.SelectMany(t => t.Split('\n')).FirstOrDefault(l => l.Trim().Length > 0)?.Trim()} ({path})";
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or IOException)
        {
            return path;
        }
    }

    private static string Release()
    {
        var line = File.Exists("/etc/os-release") ? File.ReadLines("/etc/os-release").FirstOrDefault(l => l.StartsWith("PRETTY_NAME=", StringComparison.Ordinal)) : null;
        return line?.Split('=', 2)[1].Trim('"') ?? "Linux";
    }
}
