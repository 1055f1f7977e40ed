using System.CommandLine;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Commands;

/// <summary>Copies one file into a session or out of it.</summary>
internal static class CopyCommand
{
    public static Command Create(Say say)
    {
        var server = new ServerOption();
        var wake = new WakeOption();
        var from = new Argument<string>("from") { Description = "A local path, or ID:PATH in a session" };
        var to = new Argument<string>("to") { Description = "ID:PATH in a session, or a local path" };
        var command = new DetailedCommand("cp", "Copy a file into a session or out of it. Paths in the session are absolute or relative to the user's home.", """
              sandbox session cp data.csv ID:data.csv
              sandbox session cp ID:/home/user/plot.png .
            """)
        { from, to };
        wake.AddTo(command);
        server.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            using var api = server.Connect(parsed, wake.MayWake(parsed));
            var (source, target) = (parsed.GetValue(from)!, parsed.GetValue(to)!);
            switch (Remote(source), Remote(target))
            {
                case (null, { } up):
                    await UploadAsync(api, source, up.Session, up.Path, say, cancellationToken);
                    break;
                case ({ } down, null):
                    await DownloadAsync(api, down.Session, down.Path, target, say, cancellationToken);
                    break;
                default:
                    throw new UserException("one side must be local, the other ID:PATH in a session", ExitCodes.Usage);
            }

            return ExitCodes.Success;
        });
        return command;
    }

    /// <summary>Splits <c>ses_…:path</c>; anything else is a local path.</summary>
    internal static (string Session, string Path)? Remote(string text)
    {
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && text.StartsWith("ses_", StringComparison.Ordinal) ? (text[..colon], text[(colon + 1)..]) : null;
    }

    private static async Task UploadAsync(SandboxApi api, string local, string session, string path, Say say, CancellationToken cancellationToken)
    {
        var file = new FileInfo(local);
        if (!file.Exists)
        {
            throw new UserException($"{local}: there is no such file", ExitCodes.Usage);
        }

        path = path.Length == 0 ? file.Name : path.EndsWith('/') ? path + file.Name : path;
        await using var content = file.OpenRead();
        await WithBarAsync(say, file.Name, content.Length, bar => api.Files.UploadAsync(session, path, content, (int)file.UnixFileMode & 0x1FF, bar, cancellationToken));
    }

    private static async Task DownloadAsync(SandboxApi api, string session, string path, string local, Say say, CancellationToken cancellationToken)
    {
        var stat = await api.Files.StatAsync(session, path, cancellationToken);
        if (Directory.Exists(local))
        {
            // The guest's answer names the file only here, and only after the same check as an artifact's name.
            var name = path.TrimEnd('/').Split('/')[^1];
            local = Path.Combine(local, Runs.Artifacts.RelativeName("", "/" + name) ?? throw new UserException($"'{path}' gives no safe file name; name the local file", ExitCodes.Usage));
        }

        var place = Path.GetFullPath(local);
        var partial = Path.Combine(Path.GetDirectoryName(place)!, $".sandbox-{Guid.NewGuid():N}.partial");
        try
        {
            await using (var target = new FileStream(partial, FileMode.CreateNew, FileAccess.Write))
            {
                await WithBarAsync(say, Path.GetFileName(place), stat.Size, bar => api.Files.DownloadAsync(session, path, target, long.MaxValue, bar, cancellationToken));
            }

            File.Move(partial, place, overwrite: true);
        }
        finally
        {
            File.Delete(partial);
        }
    }

    private static Task WithBarAsync(Say say, string name, long size, Func<IProgress<long>?, Task> copy) =>
        !Say.IsInteractive
            ? copy(null)
            : say.Error.Progress().AutoClear(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new DownloadedColumn(), new TransferSpeedColumn()).StartAsync(async context =>
            {
                var task = context.AddTask(Markup.Escape(name), maxValue: Math.Max(1, size));
                await copy(new Bar(task));
            });

    private sealed class Bar(ProgressTask task) : IProgress<long>
    {
        public void Report(long value) => task.Value = value;
    }
}
