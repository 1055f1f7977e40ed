using System.Runtime.CompilerServices;
using Sandbox.Abstractions;
using Sandbox.E2b.Connect;
using Sandbox.E2b.Envd.Files;
using Sandbox.E2b.Protos.Filesystem;

namespace Sandbox.E2b.Envd.Filesystem;

/// <summary>Watches of directories: as a stream, and as events that the caller fetches.</summary>
internal sealed class Watches(ISessionFiles files, string? user)
{
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(15);

    /// <summary>
    /// A watcher's id carries what its reader needs to know and the session does not: the directory and whether entries are wanted. So nothing is kept here. It proves nothing: the watch
    /// itself is looked up by the session.
    /// </summary>
    private const char Separator = '|';

    /// <summary>Events as they come, until the caller leaves.</summary>
    public async Task FollowAsync(WatchDirRequest request, ConnectOutput<WatchDirResponse> output)
    {
        var (watch, directory) = await BeginAsync(GuestPath.Plain(request.Path), request.Recursive);
        try
        {
            await output.WriteAsync(new WatchDirResponse { Start = new WatchDirResponse.Types.StartEvent() });
            await output.FollowAsync(
                PagesAsync(watch, output.Deadline.Token),
                async page =>
                {
                    foreach (var change in page.Events)
                    {
                        await output.WriteAsync(new WatchDirResponse { Filesystem = await EventAsync(change, directory, request.IncludeEntry) });
                    }

                    return !page.Closed;
                },
                new WatchDirResponse { Keepalive = new WatchDirResponse.Types.KeepAlive() });
        }
        finally
        {
            await EndQuietlyAsync(watch);
        }
    }

    /// <summary>Begins a watch that is read by <see cref="ReadAsync"/>.</summary>
    public async Task<CreateWatcherResponse> CreateAsync(CreateWatcherRequest request)
    {
        var (watch, directory) = await BeginAsync(GuestPath.Plain(request.Path), request.Recursive);
        return new CreateWatcherResponse { WatcherId = $"{watch}{Separator}{(request.IncludeEntry ? "e" : "")}{Separator}{directory}" };
    }

    /// <summary>The events since the last call.</summary>
    public async Task<GetWatcherEventsResponse> ReadAsync(GetWatcherEventsRequest request)
    {
        var (watch, entries, directory) = Parse(request.WatcherId);
        var response = new GetWatcherEventsResponse();
        var page = await files.ReadWatchAsync(watch, TimeSpan.Zero);
        foreach (var change in page.Events)
        {
            response.Events.Add(await EventAsync(change, directory, entries));
        }

        return response;
    }

    /// <summary>Ends a watch.</summary>
    public async Task<RemoveWatcherResponse> RemoveAsync(RemoveWatcherRequest request)
    {
        await files.UnwatchAsync(Parse(request.WatcherId).Watch);
        return new RemoveWatcherResponse();
    }

    private async Task<(string Watch, string Directory)> BeginAsync(string path, bool recursive)
    {
        // Absolute, as the events' paths will be.
        var directory = await files.StatAsync(path, user);
        if (directory.Kind == FileKind.File)
        {
            throw SandboxException.Invalid("path", $"{directory.Path} is no directory; only directories are watched.");
        }

        return (await files.WatchAsync(path, recursive, user), directory.Path);
    }

    private static (string Watch, bool Entries, string Directory) Parse(string id) => id.Split(Separator, 3) is [{ Length: > 0 } watch, var entries, var directory]
        ? (watch, entries.Length > 0, directory)
        : throw SandboxException.NotFound("There is no such watcher.");

    private async IAsyncEnumerable<FileEventPage> PagesAsync(string watch, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            // A caller who leaves is noticed at once; what he left waiting ends by itself soon after.
            var page = await files.ReadWatchAsync(watch, Wait).WaitAsync(cancellationToken);
            if (page.Events.Count > 0 || page.Closed)
            {
                yield return page;
            }
        }
    }

    private async Task<FilesystemEvent> EventAsync(FileEvent change, string directory, bool withEntry)
    {
        var seen = new FilesystemEvent
        {
            Name = RelativeTo(directory, change.Path),
            Type = change.Change switch
            {
                FileChange.Created => EventType.Create,
                FileChange.Written => EventType.Write,
                FileChange.Removed => EventType.Remove,
                FileChange.Renamed => EventType.Rename,
                FileChange.Attributes => EventType.Chmod,
                _ => EventType.Unspecified,
            },
        };
        if (withEntry && change.Change is not (FileChange.Removed or FileChange.Renamed))
        {
            try
            {
                seen.Entry = Entries.Of(await files.StatAsync(change.Path, user));
            }
            catch (SandboxException)
            {
                // Gone again.
            }
        }

        return seen;
    }

    private static string RelativeTo(string directory, string path)
    {
        var root = directory.TrimEnd('/') + "/";
        return path.StartsWith(root, StringComparison.Ordinal) ? path[root.Length..] : path;
    }

    private async Task EndQuietlyAsync(string watch)
    {
        try
        {
            await files.UnwatchAsync(watch);
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or Orleans.Runtime.OrleansException)
        {
            // It ends by itself when nobody reads it.
        }
    }
}
