using Sandbox.Abstractions;
using Sandbox.E2b.Connect;
using Sandbox.E2b.Data;
using Sandbox.E2b.Envd.Files;
using Sandbox.E2b.Protos.Filesystem;
using Sandbox.Gateway;

namespace Sandbox.E2b.Envd.Filesystem;

/// <summary>The service <c>filesystem.Filesystem</c>.</summary>
internal sealed class FilesystemService(GatewayOptions options)
{
    /// <summary>Most entries of one listing, which is one message.</summary>
    private const int MaxEntries = 100_000;

    /// <summary>About how long a listing may become, written down. Names are the guest's choice: many long ones would fill our memory.</summary>
    private const long MaxListingBytes = 64L << 20;
    private const int MaxDepth = 32;

    /// <summary>Serves a call; <see langword="null"/>: there is no such procedure.</summary>
    public Task? TryHandleAsync(DataCall call, string procedure)
    {
        var files = call.Session<ISessionFiles>();
        var watches = new Watches(files, call.User);
        return procedure switch
        {
            "Stat" => ConnectRpc.UnaryAsync<StatRequest, StatResponse>(call, async r => new StatResponse { Entry = Entries.Of(await files.StatAsync(GuestPath.Plain(r.Path), call.User)) }),
            "MakeDir" => ConnectRpc.UnaryAsync<MakeDirRequest, MakeDirResponse>(call, r => MakeDirAsync(files, r, call.User)),
            "Move" => ConnectRpc.UnaryAsync<MoveRequest, MoveResponse>(call, r => MoveAsync(files, r, call.User)),
            "ListDir" => ConnectRpc.UnaryAsync<ListDirRequest, ListDirResponse>(call, r => ListDirAsync(files, r, call)),
            "Remove" => ConnectRpc.UnaryAsync<RemoveRequest, RemoveResponse>(call, r => RemoveAsync(files, r, call.User)),
            "WatchDir" => ConnectRpc.ServerStreamAsync<WatchDirRequest, WatchDirResponse>(call, options, watches.FollowAsync),
            "CreateWatcher" => ConnectRpc.UnaryAsync<CreateWatcherRequest, CreateWatcherResponse>(call, watches.CreateAsync),
            "GetWatcherEvents" => ConnectRpc.UnaryAsync<GetWatcherEventsRequest, GetWatcherEventsResponse>(call, watches.ReadAsync),
            "RemoveWatcher" => ConnectRpc.UnaryAsync<RemoveWatcherRequest, RemoveWatcherResponse>(call, watches.RemoveAsync),
            _ => null,
        };
    }

    private static async Task<MakeDirResponse> MakeDirAsync(ISessionFiles files, MakeDirRequest request, string? user)
    {
        var path = GuestPath.Plain(request.Path);

        // Making a directory that is there is no error for the session, but the SDK wants to be told.
        if (await TryStatAsync(files, path, user) is { } there)
        {
            throw there.Kind == FileKind.Directory
                ? new SandboxException(SandboxErrorCode.AlreadyExists, $"The directory {there.Path} exists already.")
                : SandboxException.Invalid("path", $"{there.Path} exists already and is no directory.");
        }

        return new MakeDirResponse { Entry = Entries.Of(await files.MakeDirectoryAsync(path, user)) };
    }

    private static async Task<MoveResponse> MoveAsync(ISessionFiles files, MoveRequest request, string? user)
    {
        // As rename(2) does: a file takes the place of another.
        var moved = await files.MoveAsync(GuestPath.Plain(request.Source), GuestPath.Plain(request.Destination), overwrite: true, user);
        return new MoveResponse { Entry = Entries.Of(moved) };
    }

    private static async Task<ListDirResponse> ListDirAsync(ISessionFiles files, ListDirRequest request, DataCall call)
    {
        var list = new ListDirResponse();
        var bytes = 0L;
        string? after = null;
        while (true)
        {
            call.Context.RequestAborted.ThrowIfCancellationRequested();
            var page = await files.ListAsync(new ListFilesRequest { Path = GuestPath.Plain(request.Path), Depth = (int)Math.Clamp(request.Depth, 1, MaxDepth), After = after, User = call.User });
            foreach (var file in page.Entries)
            {
                var entry = Entries.Of(file);
                bytes += entry.CalculateSize();
                list.Entries.Add(entry);
            }

            if (list.Entries.Count > MaxEntries || bytes > MaxListingBytes)
            {
                throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"{request.Path} has more than {MaxEntries} entries, or very long ones. List fewer levels, or parts of it.");
            }

            if (!page.More || page.Entries is not [.., var last])
            {
                return list;
            }

            after = last.Path;
        }
    }

    private static async Task<RemoveResponse> RemoveAsync(ISessionFiles files, RemoveRequest request, string? user)
    {
        try
        {
            await files.RemoveAsync(GuestPath.Plain(request.Path), recursive: true, user);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound && !e.Message.StartsWith("There is no ", StringComparison.Ordinal))
        {
            // What is not there is as good as removed: that is how E2B has it. ("There is no" user, no session: those are told.)
        }

        return new RemoveResponse();
    }

    private static async Task<FileEntry?> TryStatAsync(ISessionFiles files, string path, string? user)
    {
        try
        {
            return await files.StatAsync(path, user);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            return null;
        }
    }
}
