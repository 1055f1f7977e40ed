using System.Diagnostics;
using System.Globalization;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Oci.Runtimes;

/// <summary>An OCI runtime of this host: where it is, what it calls itself, and how it is told what to do.</summary>
/// <param name="Kind"><c>runc</c>, <c>crun</c> or <c>runsc</c>.</param>
/// <param name="Program">Path of the program.</param>
/// <param name="Version">First line of what it says its version is.</param>
internal sealed record ContainerRuntime(string Kind, string Program, string Version)
{
    private static readonly string[] Directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

    /// <summary>What gVisor is told besides. Its own overlay is off: writes go to the session's disk, whose size is their limit, and where they can be saved. It has no network but its own loopback.</summary>
    private static readonly string[] Gvisor = ["--platform=systrap", "--network=none", "--overlay2=none"];

    public bool IsGvisor => Kind == "runsc";

    /// <summary>The Debian package that brings a runtime.</summary>
    public static string PackageOf(string name) => Path.GetFileName(name) is "runsc" ? "runsc (Debian 12: from bookworm-backports)" : Path.GetFileName(name);

    /// <summary>Finds a runtime and asks for its version.</summary>
    /// <returns>The runtime, or <see langword="null"/> where there is no such program.</returns>
    /// <exception cref="IsolationException">It does not say its version.</exception>
    public static async Task<ContainerRuntime?> FindAsync(string name, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var program = name.Contains('/') ? (File.Exists(name) ? name : null) : Directories.Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists);
        if (program is null)
        {
            return null;
        }

        var (code, said) = await RunAsync(program, ["--version"], deadline, cancellationToken);
        var line = said.Split('\n')[0].Trim();
        return code == 0 && line.Length is > 0 and <= 200
            ? new ContainerRuntime(Path.GetFileName(program), program, line.Replace(" version ", " ", StringComparison.Ordinal))
            : throw new IsolationException($"{program} --version ended with exit code {code}: {line}");
    }

    /// <summary>Arguments that start a container and leave it running.</summary>
    public IReadOnlyList<string> Run(string stateDirectory, string bundle, string pidFile, string id) =>
        [.. Global(stateDirectory), "run", "--detach", "--bundle", bundle, "--pid-file", pidFile, id];

    /// <summary>Arguments that bring a container back from a checkpoint.</summary>
    public IReadOnlyList<string> Restore(string stateDirectory, string bundle, string pidFile, string images, string id) =>
        [.. Global(stateDirectory), "restore", "--detach", "--image-path", images, "--bundle", bundle, "--pid-file", pidFile, id];

    /// <summary>Runs one of the runtime's short commands to its end.</summary>
    /// <exception cref="IsolationException">It failed, or took longer than <paramref name="deadline"/> and was killed.</exception>
    public async Task CommandAsync(string stateDirectory, IReadOnlyList<string> arguments, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var (code, said) = await RunAsync(Program, [.. Global(stateDirectory), .. arguments], deadline, cancellationToken);
        if (code != 0)
        {
            throw new IsolationException($"{Kind} {arguments[0]} ended with exit code {code}: {said.Trim()}");
        }
    }

    private string[] Global(string stateDirectory) => ["--root", stateDirectory, .. IsGvisor ? Gvisor : []];

    private static async Task<(int Code, string Said)> RunAsync(string program, IReadOnlyList<string> arguments, TimeSpan deadline, CancellationToken cancellationToken)
    {
        using var process = new Process { StartInfo = new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/" } };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(deadline);
        process.Start();
        process.StandardInput.Close();
        try
        {
            var said = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(limit.Token), process.StandardError.ReadToEndAsync(limit.Token));
            await process.WaitForExitAsync(limit.Token);
            var text = string.Concat(said);
            return (process.ExitCode, text.Length > 2000 ? text[^2000..] : text);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
            cancellationToken.ThrowIfCancellationRequested();
            throw new IsolationException(string.Create(CultureInfo.InvariantCulture, $"{program} {arguments.FirstOrDefault(a => !a.StartsWith('-'))} did not end within {deadline.TotalSeconds:0} s"));
        }
    }
}
